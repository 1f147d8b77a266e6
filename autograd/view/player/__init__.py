"""A page that plays a tape forward and back in a browser."""
