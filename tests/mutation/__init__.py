"""Mutation testing of the gradient rules: one small fault at a time, which the check of that op has to find.

Every rule in `ag.REGISTRY`, every helper that a rule calls, and what the engine does around each rule are mutated:
an operator, a constant, an argument, a name and so on.  A mutant of a rule is put in place of that rule alone, the
formula staying as it is, and has to fail `ag.check_op` on tests/samples.py or the op's EDGES.  What survives is a hole
in the samples, dead code in the rule, or computes the same: those stand in EQUIVALENT.
"""

from tests.mutation.equivalent import REASONS
from tests.mutation.faults import faults
from tests.mutation.judge import checks, judge
from tests.mutation.mutants import mutants, our_ops, put_in

__all__ = ["REASONS", "checks", "faults", "judge", "mutants", "our_ops", "put_in"]
