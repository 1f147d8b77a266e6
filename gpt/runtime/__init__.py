"""The runtime of a command: settings and flags, signals, threads, files, memory and the terminal."""
