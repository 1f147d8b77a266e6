"""Text and tasks as batches of tokens."""
