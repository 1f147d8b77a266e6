"""Mutation testing of the gradient rules: one small fault at a time, which the check of that op has to find.

Every rule in autograd/ops/, every helper that a rule calls, and what the engine does around each rule are mutated: an
operator, a constant, an argument, a name and so on.  A mutant of a rule is put in place of that rule alone, the formula
staying as it is, and has to fail `ag.check_op` on tests/samples.py, to leave single precision or another library's
arrays there, or to give something else than tests/mutation/edges.py says, where there are no finite differences.  What
survives is a hole in the samples, dead code in the rule, or computes the same: those stand in EQUIVALENT.
"""

from tests.mutation.equivalent import REASONS
from tests.mutation.faults import faults
from tests.mutation.judge import checks, edge_checks, judge
from tests.mutation.mutants import mutants, our_ops, put_in

__all__ = ["REASONS", "checks", "edge_checks", "faults", "judge", "mutants", "our_ops", "put_in"]
