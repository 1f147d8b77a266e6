"""The card that explains one record: formula, numbers, Jacobian and a check of its gradient."""
