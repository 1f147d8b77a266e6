"""`gpt chat --web`: a page on this machine to talk to a model, and to look into it as it talks."""
