"""Conversations: as files, as tokens, and held with a model: `gpt chat`."""
