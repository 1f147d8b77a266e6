"""`ag.record`: a function captured once as a program, and replayed on buffers planned beforehand."""
