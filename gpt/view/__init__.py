"""What shows a model or a run to a person: `gpt show`, `gpt info`, `gpt plot`, and a model's tree."""
