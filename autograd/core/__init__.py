"""The engine's foundations: an op's arguments, a thread's mode, arrays, NumPy's protocols, wording and errors."""
