"""Ufuncs that are not NumPy's: SciPy's, Numba's, and those of `np.frompyfunc`."""

import copy
import pickle
import subprocess
import sys

import numpy as np
import pytest

import autograd as ag
from autograd.__main__ import explain, supported

from ..common import leaf


def _scipy(name):
    return getattr(pytest.importorskip("scipy.special"), name)


def twice(a):
    return 2.0 * a


def _numba(*signatures):
    return pytest.importorskip("numba").vectorize(*signatures)(twice)


UFUNCS = {  # ufunc, its rule, the name of its input
    "scipy": (lambda: _scipy("expit"), lambda g, y, x: g * y * (1 - y), "x"),
    "numba": (lambda: _numba(), lambda g, y, a: g * 2, "a"),
    "numba of float64": (lambda: _numba(["float64(float64)"]), lambda g, y, a: g * 2, "a"),
    "frompyfunc": (lambda: np.frompyfunc(twice, 1, 1), lambda g, y, x: g * 2, "x"),
}


@pytest.mark.parametrize("name", UFUNCS)
def test_one_that_is_no_op_says_how_it_becomes_one(name):
    ufunc, _, x = UFUNCS[name][0](), *UFUNCS[name][1:]
    for t in (leaf([1.0, 2.0]), ag.tensor([1.0, 2.0])):
        with pytest.raises(TypeError, match=rf'the ufunc .*(\w+) = ag\.op\(\1\).*@\1\.gradient\("{x}"\)') as caught:
            ufunc(t)
        assert "numpy.ufunc" not in str(caught.value)


@pytest.mark.parametrize("name", UFUNCS)
def test_it_is_an_op_like_others(name, new_op):
    ufunc, rule, x = UFUNCS[name][0](), *UFUNCS[name][1:]
    op = new_op(ufunc)
    assert op.gradient(x)(rule) is rule and op.parameters == [x]
    assert getattr(ag, op.name) is op is ag.REGISTRY[op.name] and op.name in ("expit", "twice")
    t = leaf([[1.0, 2.0, -0.5]])
    for call in (op, ufunc, getattr(ag, op.name)):
        y = call(t)
        assert type(y) is ag.Tensor and y.op is op and y.dtype == float
        np.testing.assert_array_equal(y.data, np.asarray(ufunc(t.data), float))
    np.testing.assert_array_equal(op(np.ones(3)), np.asarray(ufunc(np.ones(3)), float))
    assert op(leaf([1.0], dtype=np.float32)).dtype == np.float32 or "numba" in name  # whose 2.0 is double
    ag.check_op(op, [(np.linspace(-2, 2, 5),), (np.array(0.3),), (np.ones((0, 2)),)])
    assert np.all(np.isfinite(ag.hessian(lambda v: np.sum(ufunc(v) ** 2))(np.array([0.5, 1.0]))))
    loss = ufunc(t * 1.0).sum()
    assert f"= {op.name}(%1)" in str(ag.tape(loss))
    program = ag.record(lambda v: ufunc(v * t).sum(), np.ones((1, 3)))
    np.testing.assert_allclose(program(np.ones((1, 3))), ufunc(t.data).sum(), rtol=1e-15)
    assert "agrees" in str(ag.tape(loss)[2].explain(loss))
    assert ag.tape(loss).draw().source and ag.tape(loss).player() and explain(op.name).startswith(f"{op.name}({x})")
    assert [row[1] for row in supported() if row[0] == op.name] == [f"of {x}"]
    assert pickle.loads(pickle.dumps(op)) is op and copy.copy(op) is op and copy.deepcopy(op) is op


def test_inputs_and_outputs_of_any_number(new_op):
    betainc, sici, xlogy = new_op(_scipy("betainc")), new_op(_scipy("sici")), new_op(_scipy("xlogy"))
    assert [op.parameters for op in (betainc, sici, xlogy)] == [["x1", "x2", "x3"], ["x"], ["x", "y"]]
    betainc.gradient("x3")(lambda g, y, x1, x2, x3: g * 12 * x3 * (1 - x3) ** 2)  # for x1 = 2, x2 = 3
    assert ag.grad(_scipy("betainc"), 2)(2.0, 3.0, 0.4) == pytest.approx(12 * 0.4 * 0.36)
    sici.gradient("x")(lambda g, y, x: g[0] * np.sin(x) / x + g[1] * np.cos(x) / x)
    s, c = _scipy("sici")(leaf([1.0, 2.0]))
    np.testing.assert_array_equal([s.data, c.data], _scipy("sici")([1.0, 2.0]))
    ag.check_op(sici, [(np.array([1.0, 2.0]),)])
    xlogy.gradient("x", "y")(lambda g, z, x, y: (g * np.log(y), g * x / y))
    ag.check_op(xlogy, [(np.array([[1.0], [2.0]]), np.array([0.5, 3.0]))])
    with pytest.raises(TypeError, match=r"no gradient rule for its input x1"):
        betainc(leaf(2.0), 3.0, 0.4)


def test_a_gufunc_of_numba(new_op):
    numba = pytest.importorskip("numba")

    @numba.guvectorize(["void(float64[:], float64[:])"], "(n)->(n)")
    def reverse(a, out):
        for i in range(len(a)):
            out[i] = a[-1 - i]

    with pytest.raises(TypeError, match="the ufunc reverse does not take Tensors yet: make it an op"):
        reverse(leaf([1.0, 2.0]))
    with pytest.raises(ValueError, match="'reverse' cannot be the name of an op"):  # ag.reverse is the walk
        new_op(reverse)
    reverse.__name__ = "reversed_row"
    new_op(reverse).gradient("a")(lambda g, y, a: reverse(g))
    ag.check_op(ag.reversed_row, [(np.array([1.0, 2.0, 3.0]),)])
    assert reverse(leaf([1.0, 2.0])).tolist() == [2.0, 1.0]


def test_names_that_are_taken():
    with pytest.raises(TypeError, match=r"the ufunc erf does not take Tensors yet: ag\.erf is there"):
        _scipy("erf")(leaf(1.0))
    with pytest.raises(ValueError, match=r"ag\.erf is there already, from autograd\.ops"):
        ag.op(_scipy("erf"))
    with pytest.raises(ValueError, match="cannot be the name of an op"):
        ag.op(np.frompyfunc(lambda a: a, 1, 1))
    with pytest.raises(TypeError, match=r"np\.nextafter does not take Tensors yet.*implements=np\.nextafter"):
        np.nextafter(leaf(1.0), 2.0)


def test_other_ways_to_call_one_are_refused(new_op):
    expit = _scipy("expit")
    new_op(expit)
    with pytest.raises(TypeError, match="out= are not possible"):
        expit(leaf(1.0), out=np.zeros(()))
    with pytest.raises(TypeError, match=r"xlogy\.outer does not take Tensors"):
        _scipy("xlogy").outer(leaf([1.0]), leaf([1.0]))


# ---------------------------------------------------------------------- pickling what is known


@pytest.mark.slow_but_every(4)
@pytest.mark.parametrize("name", {**ag.REGISTRY, **ag.FUNCTIONS})
def test_ops_and_functions_are_pickled_by_name(name):
    known = getattr(ag, name)
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        assert pickle.loads(pickle.dumps(known, protocol)) is known
    assert copy.copy(known) is known and copy.deepcopy(known) is known


def test_an_op_that_has_been_replaced_is_not_pickled(new_op):
    def cubed(x): return x ** 3
    old, new = new_op(cubed), new_op(cubed)
    assert pickle.loads(pickle.dumps(new)) is new
    with pytest.raises((pickle.PicklingError, AttributeError)):
        pickle.dumps(old)
    assert copy.copy(old) is old


def test_an_op_elsewhere(tmp_path):
    """In another process its module is imported; without that it is said what is missing."""
    (tmp_path / "theirs.py").write_text("import autograd as ag\n\n@ag.op\ndef cubed(x):\n    return x ** 3\n")
    run = [sys.executable, "-c"]
    made = subprocess.run([*run, "import pickle, theirs; print(pickle.dumps(theirs.cubed).hex())"], cwd=tmp_path,
                          capture_output=True, text=True, check=True).stdout.strip()
    load = f"import pickle; print(pickle.loads(bytes.fromhex('{made}')))"
    found = subprocess.run([*run, load], cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    assert found == "<op cubed(x)>\n"
    (tmp_path / "theirs.py").unlink()
    missing = subprocess.run([*run, load], cwd=tmp_path, capture_output=True, text=True)
    said = "LookupError: there is no op 'cubed' here, and importing theirs defines none"
    assert missing.returncode == 1 and said in (
        missing.stderr)
