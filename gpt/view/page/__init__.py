"""A trained model as one web page, which computes it in plain JavaScript."""
