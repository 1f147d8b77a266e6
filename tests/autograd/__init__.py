"""The tests of the engine, a file for each of its own."""
