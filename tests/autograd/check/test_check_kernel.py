"""A kernel that breaks its contract is found: by the engine where it can see it, by `check_kernel` in any case."""

import re

import numpy as np
import pytest

import autograd as ag
from tests.autograd.common import leaf

X, W = np.random.default_rng(0).normal(size=(2, 3, 4))
SAMPLES = [(X, W), (X[0], W[1], {"slope": 3.0}), (np.zeros((0, 2)), np.ones((0, 2)))]


def product(x, w, slope=2.0):
    return slope * x * w


class Right:
    """Saves slope · w."""

    @classmethod
    def forward(cls, executor, x, w, slope=2.0):
        y, scaled = executor.empty(x, x.shape), executor.empty(x, x.shape)
        executor.run(write_forward, x, w, slope, scaled, y)
        return y, scaled

    @classmethod
    def backward(cls, executor, needed, g, y, scaled, x, w, slope=2.0):
        dx, dw = executor.empty(x, x.shape), executor.empty(w, w.shape)
        executor.run(write_backward, g, x, scaled, slope, dx, dw)
        return [(dx, dw)[i] for i in needed]


def write_forward(x, w, slope, scaled, y):
    np.multiply(w, slope, out=scaled)
    np.multiply(x, scaled, out=y)


def write_backward(g, x, scaled, slope, dx, dw):
    np.multiply(g, scaled, out=dx)
    np.multiply(g, x, out=dw)
    dw *= slope


def op_with(kernel):
    op = ag.Op(product)
    op.gradient("x")(lambda g, y, x, w, slope=2.0: g * w * slope)
    op.gradient("w")(lambda g, y, x, w, slope=2.0: g * x * slope)
    op.kernels[np.ndarray] = kernel
    return op


def forward(change):
    """Return a kernel whose forward returns `change(executor, (y, saved), x, w)` instead."""
    class Changed(Right):
        @classmethod
        def forward(cls, executor, x, w, slope=2.0):
            return change(executor, Right.forward(executor, x, w, slope), x, w)
    return Changed


def backward(change):
    """Return a kernel whose backward returns `change(gradients, needed, g, y, saved, x, w)` instead."""
    class Changed(Right):
        @classmethod
        def backward(cls, executor, needed, g, y, scaled, x, w, slope=2.0):
            found = Right.backward(executor, needed, g, y, scaled, x, w, slope)
            return change(found, needed, g, y, scaled, x, w)
    return Changed


# ---------------------------------------------------------------------- what the engine sees

BROKEN_FORWARD = {
    "only an array": (forward(lambda executor, made, x, w: made[0]), r"returned f64\[3,4\]"),
    "a list": (forward(lambda executor, made, x, w: list(made)), r"returned \[array"),
    "a number": (forward(lambda executor, made, x, w: (made[0].sum(), made[1])), r"returned \(np.float64"),
    "no result": (forward(lambda executor, made, x, w: (None, made[1])), r"returned \(None"),
    "three": (forward(lambda executor, made, x, w: (*made, 1)), r"returned \(array"),
    "a tuple of what is no array": (forward(lambda executor, made, x, w: ((made[0], None), None)),
                                    r"returned \(\(array"),
}
BROKEN_BACKWARD = {
    "nothing": (backward(lambda ds, *_: None),
                "has to return a list with a gradient for each of x, w, 2 in all, and it returned None"),
    "an array": (backward(lambda ds, *_: ds[0]), r"has to return a list .* 2 in all, and it returned f64\[3,4\]"),
    "too few": (backward(lambda ds, *_: ds[:1]), "has to return a list .* 2 in all, and it returned 1 of them"),
    "too many": (backward(lambda ds, *_: [*ds, ds[0]]), "has to return a list .* 2 in all, and it returned 3 of them"),
    "a shape": (backward(lambda ds, *_: [ds[0].sum(0), *ds[1:]]),
                r"returned f64\[4\] as the gradient of x, which is f64\[3,4\]"),
    "a dtype": (backward(lambda ds, *_: [*ds[:-1], ds[-1].astype(np.float16)]),
                r"returned f16\[3,4\] as the gradient of w, which is f64\[3,4\]"),
    "no array": (backward(lambda ds, *_: [*ds[:-1], None]), r"returned None as the gradient of w"),
}


@pytest.mark.parametrize("kernel, message", BROKEN_FORWARD.values(), ids=BROKEN_FORWARD)
def test_what_is_wrong_with_a_forward_is_said_when_it_runs(kernel, message):
    op = op_with(kernel)
    with pytest.raises(TypeError, match=rf"(?s)product\(.*the forward of product's kernel {message}.*return \(y,"):
        op(leaf(X), W)
    with pytest.raises(TypeError, match=f"the forward of product's kernel {message}"):
        op(X, W)
    with pytest.raises(AssertionError, match=f"kernel of product, sample 0, float64, as given: TypeError.*{message}"):
        ag.check_kernel(op, SAMPLES)


@pytest.mark.parametrize("kernel, message", BROKEN_BACKWARD.values(), ids=BROKEN_BACKWARD)
def test_what_is_wrong_with_a_backward_is_said_when_it_runs(kernel, message):
    op = op_with(kernel)
    with pytest.raises((TypeError, ValueError), match=rf"the backward of product's kernel {message}") as error:
        op(leaf(X), leaf(W)).sum().backward()
    assert re.search(r"%\d f64\[3,4\] = product\(%", str(error.value))
    with pytest.raises(AssertionError, match="the kernel of product, sample 0, float64, as given"):
        ag.check_kernel(op, SAMPLES)


def test_a_forward_that_fails_when_a_value_is_computed_again_names_its_op():
    op, x = op_with(Right), leaf(X)
    y = op(x, W)
    y.sum().backward()
    op.kernels[np.ndarray] = BROKEN_FORWARD["only an array"][0]
    with pytest.raises(TypeError, match="the forward of product's kernel"):
        print(y.inputs[0].data, y.data)


# ---------------------------------------------------------------------- what only a comparison sees

kept, scratch = {}, {}


def uninitialized(executor, made, x, w):
    y = executor.empty(x, x.shape)
    executor.run(lambda a, y: np.add(y, a, out=y), made[0], y)
    return y, made[1]


def uninitialized_behind_fmax(executor, made, x, w):
    y = executor.empty(x, x.shape)
    executor.run(lambda a, y: np.fmax(y, a, out=y), made[0], y)
    return y, made[1]


def in_memory_order(executor, made, x, w):
    y = executor.empty(x, x.shape)
    executor.run(lambda x, w, y: np.multiply(x.ravel("K").reshape(x.shape) * 2.0, w, out=y), x, w, y)
    return y, made[1]


def with_a_number_of_the_recording(executor, made, x, w):
    y, largest = executor.empty(x, x.shape), x.max(initial=1)
    executor.run(lambda a, y: np.multiply(a, 1 / largest, out=y), made[0], y)
    z = executor.empty(x, x.shape)
    executor.run(lambda x, y, z: np.multiply(y, x.max(initial=1), out=z), x, y, z)
    return z, made[1]


def without_the_executor(executor, made, x, w):
    return made[0].copy(), made[1]


def saved_beside_the_executor(executor, made, x, w):
    return made[0], made[1].copy()


def the_same_buffer(executor, made, x, w):
    y = scratch.setdefault((x.shape, x.dtype), np.empty(x.shape, x.dtype))
    executor.run(np.copyto, y, made[0])
    return y, made[1]


def the_same_saved(executor, made, x, w):
    saved = scratch.setdefault((x.shape, x.dtype), np.empty(x.shape, x.dtype))
    executor.run(np.copyto, saved, made[1])
    return made[0], saved


def cached_by_shape(executor, made, x, w):
    return kept.setdefault((x.shape, x.dtype, executor.empty is None), (made[0].copy(), made[1].copy()))


def writes_and_restores(executor, made, x, w):
    executor.run(lambda x: (np.multiply(x, 2, out=x), np.multiply(x, 0.5, out=x)), x)
    return made


def in_place(which):
    def change(ds, needed, g, y, saved, x, w):
        array = {"g": g, "y": y, "saved": saved, "x": x}[which]
        np.multiply(array, 2, out=array)
        return ds
    return backward(change)


def forward_in_place(executor, made, x, w):
    executor.run(lambda x: np.multiply(x, 2, out=x), x)
    return made


def rounded(dtype):
    """Compute the right result up to the precision of `dtype`."""
    return forward(lambda executor, made, x, w: (round_to(made[0], dtype), made[1]))


def round_to(y, dtype):
    y[...] = y.astype(dtype)
    return y


WRONG = {
    "value": (forward(lambda e, made, x, w: (round_to(made[0], float) * 1.001, made[1])),
              r"as given: the result at index \(\d, \d\) is .*, and has to be"),
    "shape": (forward(lambda e, made, x, w: (made[0].T, made[1])),
              r"the result is f64\[4,3\], and has to be f64\[3,4\]"),
    "dtype": (forward(lambda e, made, x, w: (made[0].astype(np.float32), made[1])), "the result is f32"),
    "two for (y, saved)": (forward(lambda e, made, x, w: ((made[0], made[1]), None)),
                           r"the result is f64\[3,4\], f64\[3,4\], and has"),
    "swapped": (backward(lambda ds, *_: ds[::-1]), "the gradient of x, if those of x, w are needed at index"),
    "first of all": (backward(lambda ds, needed, g, y, s, x, w: [2 * g * w, 2 * g * x][:len(needed)]),
                     "the gradient of w, if those of w are needed at index"),
    "gradient": (backward(lambda ds, needed, *_: [1.001 * d if i == 1 else d for i, d in zip(needed, ds)]),
                 r", float64, as given: the gradient of w, if those of w are needed at index \(\d, \d\) is"),
    "uninitialized": (forward(uninitialized), "the result at index .* is nan"),
    "uninitialized, behind fmax": (forward(uninitialized_behind_fmax), r"the result at index .* is 1e\+30"),
    "memory order": (forward(in_memory_order), "Fortran order: the result"),
    "of the recording": (forward(with_a_number_of_the_recording), "in a program: the result"),
    "without the executor": (forward(without_the_executor), "in a program: the result"),
    "saved without the executor": (forward(saved_beside_the_executor), "in a program: RuntimeError.*executor.run"),
    "the same buffer": (forward(the_same_buffer), "changes the output"),
    "the same saved": (forward(the_same_saved), "the gradient of x"),
    "cached": (forward(cached_by_shape), "the result"),
    "writes and restores": (forward(writes_and_restores), "read-only: ValueError"),
    "g in place": (in_place("g"), "changes g"),
    "y in place": (in_place("y"), "changes the output"),
    "x in place": (in_place("x"), "changes x"),
    "saved in place": (in_place("saved"), "the gradient of x"),
    "x in place in forward": (forward(forward_in_place), "changes x"),
    "single precision": (rounded(np.float32), "float64, as given: the result"),
    "half precision": (rounded(np.float16), "float64, as given: the result"),
}


@pytest.mark.parametrize("kernel, message", WRONG.values(), ids=WRONG)
def test_a_kernel_that_is_wrong_is_found(kernel, message):
    kept.clear()
    scratch.clear()
    with pytest.raises(AssertionError, match=f"(?s)the kernel of product, sample 0.*({message})"):
        ag.check_kernel(op_with(kernel), SAMPLES)


LAYOUTS = {
    "C order": lambda a: a.shape == (4, 3) and a.flags.c_contiguous,
    "Fortran order": lambda a: a.shape == (3, 4) and a.flags.f_contiguous,
    "with gaps": lambda a: a.strides[-1] == 2 * a.itemsize, "backwards": lambda a: a.strides[-1] < 0,
    "unaligned": lambda a: not a.flags.aligned, "read-only": lambda a: not a.flags.writeable,
    "repeated": lambda a: 0 in a.strides and a.size > 0,
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", ["x", "g"])
def test_a_kernel_that_is_wrong_where_an_array_lies_in_another_way_is_found(name, layout):
    lies_so = LAYOUTS[layout]
    if name == "x":
        kernel = forward(lambda e, made, x, w: (made[0] + lies_so(x), made[1]))
    else:
        kernel = backward(lambda ds, needed, g, *_: [d + lies_so(g) for d in ds])
    samples, said = [(X.T, W.T)] if layout == "C order" else SAMPLES, "the result" if name == "x" else "the gradient"
    with pytest.raises(AssertionError, match=f"sample 0, float64, ({layout}|as given): {said}") as error:
        ag.check_kernel(op_with(kernel), samples)
    assert layout in str(error.value) or (name, layout) == ("g", "C order")  # in which g lies as given


def test_a_kernel_that_changes_what_no_gradient_flows_to_is_found():
    op = ag.Op(product, differentiable=False)
    op.kernels[np.ndarray] = forward(forward_in_place)
    with pytest.raises(AssertionError, match="as given changes x, which others still need"):
        ag.check_kernel(op, SAMPLES)
    op.kernels[np.ndarray] = Right
    assert ag.check_kernel(op, SAMPLES) == [True] * 3


def test_a_kernel_that_is_wrong_in_single_precision_alone_is_found():
    class Mixed(Right):
        @classmethod
        def forward(cls, executor, x, w, slope=2.0):
            y, saved = Right.forward(executor, x, w, slope)
            return (round_to(y, np.float16) if x.dtype == np.float32 else y), saved
    with pytest.raises(AssertionError, match="sample 0, float32, as given: the result"):
        ag.check_kernel(op_with(Mixed), SAMPLES)


def test_samples_of_mixed_precision_are_tried_as_they_are():
    class Mixed(Right):
        @classmethod
        def backward(cls, executor, needed, g, y, scaled, x, w, slope=2.0):
            dx, dw = executor.empty(x, x.shape), executor.empty(w if cls.right else x, w.shape)
            executor.run(write_backward, g, x, scaled, slope, dx, dw)
            return [(dx, dw)[i] for i in needed]

    Mixed.right = True
    op, sample = op_with(Mixed), (X, W.astype(np.float32))
    assert ag.check_kernel(op, [sample]) == [True]
    Mixed.right = False
    assert ag.check_kernel(op, [(X, W)]) == [True]
    with pytest.raises(AssertionError, match=r"mixed precision, as given: the gradients of w: .*returned f64\[3,4\]"):
        ag.check_kernel(op, [sample])


def test_a_right_kernel_passes_and_what_it_declines_is_told():
    class Some(Right):
        @classmethod
        def forward(cls, executor, x, w, slope=2.0):
            return Right.forward(executor, x, w, slope) if slope == 2.0 else None
    assert ag.check_kernel(op_with(Right), SAMPLES) == [True, True, True]
    assert ag.check_kernel(op_with(Some), SAMPLES) == [True, False, True]
    with pytest.raises(ValueError, match="the kernel of product took none of these 1 samples"):
        ag.check_kernel(op_with(Some), SAMPLES[1:2])
    with pytest.raises(ValueError, match="none of these 0 samples"):
        ag.check_kernel(op_with(Some), [])


def test_a_kernel_may_take_some_layouts_alone():
    class Ordered(Right):
        @classmethod
        def forward(cls, executor, x, w, slope=2.0):
            return Right.forward(executor, x, w, slope) if x.flags.c_contiguous else None
    assert all(ag.check_kernel(op_with(Ordered), SAMPLES))
    assert ag.check_kernel(op_with(Ordered), [(X.T, W.T)]) == [True]


def test_there_has_to_be_a_kernel():
    with pytest.raises(ValueError, match=r"exp has no kernel for NumPy's arrays: .* exp.kernels\[np.ndarray\]"):
        ag.check_kernel(ag.exp, [(X,)])
    with pytest.raises(TypeError, match="check_kernel checks ops, and 'silu' is none"):
        ag.check_kernel(ag.silu, [(X,)])
    with pytest.raises(TypeError, match="a list of tuples of arguments"):
        ag.check_kernel(op_with(Right), X)


def test_the_op_has_its_kernel_afterwards():
    op = op_with(BROKEN_BACKWARD["too few"][0])
    kernel = op.kernels[np.ndarray]
    with pytest.raises(AssertionError):
        ag.check_kernel(op, SAMPLES)
    assert op.kernels == {np.ndarray: kernel}


def test_kernels_of_several_results_some_of_them_integers_are_checked():
    def split(x):
        return np.floor(x).astype(int), x - np.floor(x)

    class Split:
        @staticmethod
        def forward(executor, x):
            whole, rest = executor.empty(x, x.shape, int), executor.empty(x, x.shape)
            executor.run(write_split, x, whole, rest)
            return (whole, rest), None

        @staticmethod
        def backward(executor, needed, g, y, saved, x):
            d = executor.empty(x, x.shape)
            executor.run(np.copyto, d, g[1])
            return [d]

    class Off(Split):
        @staticmethod
        def forward(executor, x):
            (whole, rest), _ = Split.forward(executor, x)
            executor.run(lambda a: np.add(a, a == 1, out=a), whole)
            return (whole, rest), None

    def write_split(x, whole, rest):
        np.copyto(whole, np.floor(x), casting="unsafe")
        np.subtract(x, whole, out=rest)

    op = ag.Op(split)
    op.gradient("x")(lambda g, y, x: g[1])
    op.kernels[np.ndarray] = Split
    x = np.array([0.5, 1.25, -3.75])
    assert ag.check_kernel(op, [(x,)]) == [True]
    op.kernels[np.ndarray] = Off
    with pytest.raises(AssertionError, match=r"the result at index \(1,\) is 2, and has to be 1"):
        ag.check_kernel(op, [(x,)])
