"""Views of models and runs: `gpt show`, `gpt info`, `gpt plot`, and a model's tree."""
