"""Memory of a tape and of a captured program: sizes, lifetimes and readers of arrays."""
