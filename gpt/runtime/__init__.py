"""What a command runs in: settings and flags, signals, threads, files, memory and the terminal."""
