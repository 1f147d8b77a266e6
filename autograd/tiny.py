"""The engine in eighty lines, under the same names: without kernels, freeing, ops of several outputs, and errors."""

import numpy as np

REGISTRY: dict = {}  # the ops by name

class Tensor(np.lib.mixins.NDArrayOperatorsMixin):  # a + b is np.add(a, b), which comes to __array_ufunc__
    """An array and the record of how it was made: op, inputs and attrs.  A leaf has no op."""
    clock, __hash__ = 0, object.__hash__
    def __init__(self, data, requires_grad=False, op=None, inputs=(), attrs=None):
        self.data, self.requires_grad, self.grad = np.asarray(data), requires_grad, None
        self.op, self.inputs, self.attrs = op, inputs, attrs or {}
        self.created = Tensor.clock = Tensor.clock + 1
    shape = property(lambda self: self.data.shape)
    def __array_ufunc__(self, ufunc, method, *inputs, **attrs): return REGISTRY[ufunc.__name__](*inputs, **attrs)
    def backward(self, gradient=1.0, create_graph=False):
        """Add the gradient of this tensor to `.grad` of every leaf that requires one."""
        for t, g, _ in reverse(self, gradient + np.zeros(self.shape), create_graph):
            if t.op is None: t.grad = g if t.grad is None else t.grad + g

class Op:
    """A function of arrays, and a VJP rule for each input: (g, y, *inputs, **attrs) -> gradient of that input."""
    def __init__(self, formula):
        self.formula, self.rules, REGISTRY[formula.__name__] = formula, {}, self
    def gradient(self, name):
        """Register the rule of the input that the formula calls `name`."""
        return lambda rule: self.rules.update({self.formula.__code__.co_varnames.index(name): rule})
    def __call__(self, *inputs, **attrs):
        y, tensors = self.formula(*map(value_of, inputs), **attrs), [a for a in inputs if isinstance(a, Tensor)]
        return Tensor(y, any(t.requires_grad for t in tensors), self, inputs, attrs) if tensors else y

def tape(root):
    """Return the records behind `root`, oldest first: the order of creation is a topological order."""
    seen, new = set(), {root}
    while new:
        seen |= new
        new = {a for t in new for a in t.inputs if isinstance(a, Tensor)} - seen
    return sorted(seen, key=lambda t: t.created)

def reverse(root, seed, create_graph=False):
    """The backward pass: yield each record, newest first, with its gradient and what it sends to its inputs."""
    grads = {root: seed}
    for t in reversed(tape(root)):
        if (g := grads.pop(t, None)) is not None:  # complete, as all that used t is younger and has had its turn
            y, *inputs = (t, *t.inputs) if create_graph else map(value_of, (t, *t.inputs))
            sent = [(a, sum_to(t.op.rules[i](g, y, *inputs, **t.attrs), shape=a.shape))  # undoes broadcasting
                    for i, a in enumerate(t.inputs) if isinstance(a, Tensor) and a.requires_grad]
            for a, d in sent: grads[a] = grads[a] + d if a in grads else d
            yield t, g, sent

def value_of(a):
    """Return the array of a Tensor, and anything else as it is."""
    return a.data if isinstance(a, Tensor) else a
@Op
def sum_to(x, shape):
    """Sum over the axes along which broadcasting would repeat an array of `shape`."""
    new = x.ndim - len(shape)
    return x.sum(tuple(i for i, n in enumerate(x.shape) if i < new or n != shape[i - new])).reshape(shape)
@sum_to.gradient("x")
def _(g, y, x, shape): return g + np.zeros(x.shape)
@Op
def swap(x):
    """Swap the last two axes: the transpose of a matrix."""
    return np.swapaxes(x, -1, -2)
@swap.gradient("x")
def _(g, y, x): return swap(g)
@Op
def softmax(x):
    """y = exp(x) / Σ exp(x)"""
    return (e := np.exp(x - x.max(-1, keepdims=True))) / e.sum(-1, keepdims=True)
@softmax.gradient("x")  # the Jacobian diag(y) − y yᵀ, applied without building it
def _(g, y, x): return y * (g - sum_to(g * y, shape=(*y.shape[:-1], 1)))
for ufunc, *rules in [
        (np.add, lambda g, *_: g, lambda g, *_: g), (np.subtract, lambda g, *_: g, lambda g, *_: -g),
        (np.multiply, lambda g, y, a, b: g * b, lambda g, y, a, b: g * a), (np.negative, lambda g, y, x: -g),
        (np.divide, lambda g, y, a, b: g / b, lambda g, y, a, b: -g * y / b), (np.exp, lambda g, y, x: g * y),
        (np.matmul, lambda g, y, a, b: g @ swap(b), lambda g, y, a, b: swap(a) @ g),
        (np.maximum, lambda g, y, a, b: g * (value_of(a - b) > 0), lambda g, y, a, b: g * (value_of(a - b) <= 0)),
        (np.log, lambda g, y, x: g / x), (np.tanh, lambda g, y, x: g * (1 - y * y))]:
    Op(ufunc).rules = dict(enumerate(rules))
