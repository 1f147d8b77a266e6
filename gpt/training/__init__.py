"""Training: settings, recipes, the loop, data parallelism, metrics and reports."""
