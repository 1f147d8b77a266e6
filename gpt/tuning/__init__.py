"""Instruction tuning: `gpt tune`, what it trains on, and what it adds to a model."""
