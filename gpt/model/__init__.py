"""The GPT, its configuration and initial weights, and what a module is."""
