"""Optimizers on flat parameter buffers, and learning-rate schedules."""
