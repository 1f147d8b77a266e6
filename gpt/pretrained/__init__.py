"""Models in Hugging Face's form: `gpt import` and `gpt export`, and each file of such a folder."""
