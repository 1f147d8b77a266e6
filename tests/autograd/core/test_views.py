"""Views are imported when they are called, and the engine works without them."""

import subprocess
import sys

import autograd as ag

WITHOUT_VIEWS = """
import sys

class Deleted:
    def find_spec(self, name, path=None, target=None):
        if name.startswith("autograd.view"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Deleted())
import autograd as ag
x = ag.tensor([1.0, 2.0], requires_grad=True)
y = (x * x).sum()
y.backward()
ag.check_op(ag.multiply, [(x.data, x.data)])
assert x.grad.tolist() == [2.0, 4.0]
assert repr(ag.tape(y)).startswith("(Tensor([1., 2.]")
try:
    ag.tape(y).draw()
except ModuleNotFoundError as error:
    print(error)
"""


def run(program):
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout


def test_the_engine_works_without_views():
    assert run(WITHOUT_VIEWS) == "No module named 'autograd.view'\n"


def test_importing_autograd_imports_no_view():
    program = "import sys, autograd; print([name for name in sys.modules if name.startswith('autograd.view')])"
    assert run(program) == "[]\n"


def test_views_leave_tensors_without_a_dictionary():
    assert not hasattr(ag.tensor(1.0), "__dict__")
