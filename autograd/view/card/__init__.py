"""The card of one record: formula, numbers, Jacobian and a check of its gradient."""
