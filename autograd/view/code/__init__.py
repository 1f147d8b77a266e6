"""`tape.code()`: a tape's forward and backward pass as a NumPy program."""
