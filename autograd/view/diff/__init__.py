"""The first record in which two tapes differ."""
