"""Influence: which passages of the training text a prediction goes back to, and training again without them."""
