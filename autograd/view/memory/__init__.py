"""Memory of a tape and of a recorded program: what is kept, until when and for whom."""
