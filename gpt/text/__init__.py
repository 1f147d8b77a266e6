"""What a model learns from: text, how it becomes tokens, and how batches of them are drawn."""
