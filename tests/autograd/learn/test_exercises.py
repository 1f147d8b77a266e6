"""The check of each exercise accepts a right answer, refuses plausible wrong ones, and says something that helps."""

import numpy as np
import pytest

import autograd as ag
import gpt
from autograd.learn.judging import EXERCISES, judge

SCALAR = '''
class Scalar:
    def __init__(self, value, made_from=(), how=""):
        self.value, self.made_from, self.how, self.grad = value, made_from, how, 0.0
        tape.append(self)
    def __add__(self, other):
        return Scalar(self.value + other.value, [(self, 1.0), (other, 1.0)], "+")
    def __mul__(self, other):
        return Scalar(self.value * other.value, [(self, other.value), (other, self.value)], "*")
    def tanh(self):
        y = np.tanh(self.value).item()
        return Scalar(y, [(self, 1 - y * y)], "tanh")
tape = []
'''
MOONS = '''
rng = np.random.default_rng(1)
angle = rng.uniform(0, np.pi, 100)
upper = np.stack([np.cos(angle), np.sin(angle)], axis=1)
lower = np.stack([1 - np.cos(angle), 0.5 - np.sin(angle)], axis=1)
points = np.concatenate([upper, lower]) + rng.normal(scale=0.08, size=(200, 2))
side = np.repeat([1.0, -1.0], 100)
'''
MODEL = '''
arrays = gpt.GPT(gpt.GPTConfig(vocab_size=11, block_size=8, n_layer=2, n_head=2, n_embd=8), seed=0,
                 dtype=np.float64).map(lambda t: 5 * t.data)
def norm(layer, x):
    return ag.layer_norm(x, layer.weight, None)
def mlp(block, x):
    return ag.gelu(x @ block.c_fc.weight) @ block.c_proj.weight
'''

DEEP = '''
def plain(h, w):
    return np.tanh(h @ w)
def gradient_sizes(block, size):
    own = np.random.default_rng(0)
    ends = [ag.tensor(np.tanh(own.normal(size=(50, 16))), requires_grad=True)]
    for _ in range(20):
        ends.append(block(ends[-1], size / 4 * own.normal(size=(16, 16))))
    loss = (ends[-1] * own.normal(size=(50, 16))).sum()
    loss.backward(keep=True)
    return loss, [np.linalg.norm(t.grad) for t in ends[1:]]
'''

# exercise -> a right answer, and wrong ones: text of it, what is written instead, words of the verdict
ANSWERS = {
    "1.1": (SCALAR + '''
def backward_wrong(loss):
    loss.grad = 1.0
    for t in reversed(tape):
        for source, slope in t.made_from:
            source.grad = t.grad * slope
right_for = "a"
''', [("source.grad = t", "source.grad += t", "still added"), ("reversed(tape)", "tape", "does not come out"),
      ("t.grad * slope", "slope", "does not come out"), ("t.grad * slope", "t.grad", "does not come out"),
      ("source.grad = t.grad * slope", "source.grad = max(source.grad, t.grad * slope)", "does not come out"),
      ('"a"', '"b"', "product and a sum"), ('"a"', '"c"', "no product"), ('"a"', '"yes"', "one of the letters")]),
    "1.2": (SCALAR + '''
def exp(s):
    y = np.exp(s.value).item()
    return Scalar(y, [(s, y)], "exp")
''', [("(s, y)", "(s, s.value)", "That is the input"), ("(s, y)", "(s, 1.0)", "slope of s itself"),
      ("(s, y)", "(s, -y)", "sign is wrong"), ("(s, y)", "(s, s.value * y)", "times the right one"),
      ("Scalar(y, [(s, y)], \"exp\")", "y", "a Scalar belongs there"), ("[(s, y)]", "[]", "one pair"),
      ("np.exp(s.value)", "np.exp(-s.value)", "the value of exp(s)")]),
    "1.3": (MOONS + '''
w, b = np.zeros((2, 1)), np.zeros(1)
for _ in range(400):
    s = (points @ w + b)[:, 0]
    g = (-side * (side * s < 1))[:, None] / len(points)
    w, b = w - 0.5 * points.T @ g, b - 0.5 * g.sum(axis=0)
share = np.mean(side * (points @ w + b)[:, 0] > 0)
''', [("range(400)", "range(2)", "hinge loss"), ("w - 0.5", "w + 0.5", "its sign is wrong"),
      ("b - 0.5 * g.sum(axis=0)", "b", "hinge loss"), ("np.zeros((2, 1))", "np.zeros((2, 2))", "two weights"),
      ("[:, 0] > 0)", "[:, 0] < 0)", "wrong side"), ("share = np", "share = 100 * np", "per cent"),
      ("[:, 0] > 0)", "[:, 0] > 1)", "share does not come out")]),
    "2.1": ('''
def centred_back(g):
    return g - g.mean(axis=-1, keepdims=True)
''', [("g - g.mean", "g + g.mean", "does not come out"), ("axis=-1, keepdims=True", "", "rows do not know"),
      ("g - g.mean(axis=-1, keepdims=True)", "g", "did not depend"), ("mean", "sum", "only 1/n"),
      ("keepdims=True", "keepdims=False", "ValueError"), ("axis=-1", "axis=0", "does not come out"),
      ("g - g.mean(axis=-1, keepdims=True)", "-(g - g.mean(axis=-1, keepdims=True))", "sign is wrong"),
      ("g - g.mean(axis=-1, keepdims=True)", "g * (1 - 1 / g.shape[-1])", "does not come out")]),
    "2.2": ("d_x = lambda x, y: y.T\nd_y = lambda x, y: x.T", [
        ("y.T", "y", "its indices do not"), ("x.T", "x", "its indices do not"), ("y.T", "-y.T", "sign is wrong"),
        ("y.T", "x.T", "other one's"), ("x.T", "np.trace(x)", "Its shape is ()"), ("y.T", "2 * y.T", "2 times")]),
    "2.3": ("d_b = lambda g, a, c: a.T @ g @ c.T\norder = 'b'", [
        ("a.T @ g @ c.T", "a @ g @ c", "ValueError"), ("a.T @ g @ c.T", "(a.T @ g @ c.T).T", "Its shape is"),
        ("a.T @ g", "-a.T @ g", "sign is wrong"), ("c.T", "(c / len(c)).T", "times the right"),
        ("'b'", "'a'", "same sum"), ("'b'", "'c'", "Count the products")]),
    "3.1": ('''
def suspects(p, loss):
    tape = ag.tape(loss)
    unused = [name for name, t in p.items() if t not in tape]
    shared = [name for name, t in p.items() if t in tape and len(tape.ledger(t)) > 1]
    return unused, shared
''', [("unused, shared", "shared, unused", "not belong"), ("> 1", "> 0", "not belong"), ("> 1", "> 2", "missing"),
      ("t not in tape", "t.grad is None", "not belong"), ("return unused, shared", "return unused", "two lists"),
      ("t not in tape", "name == 'w4'", "w4 does not belong")]),
    "3.2": ("same_loss = True\nno_gradient = ['w2']\nother_gradient = ['w1', 'b1']", [
        ("True", "False", "same numbers"), ("['w2']", "['w1', 'w2']", "w1 does not belong"),
      ("['w2']", "[]", "missing"),
        ("['w1', 'b1']", "['w1']", "1 name is missing"), ("'b1']", "'b1', 'w3']", "w3 does not belong")]),
    "4.1": ('''
def back(g, y):
    return y * (g - (g * y).sum(axis=-1, keepdims=True))
change, row_sum = "c", 0
''', [("y * (g - (g * y).sum(axis=-1, keepdims=True))", "y * g", "sum over the row is missing"),
      ("y * (g - (g * y).sum(axis=-1, keepdims=True))", "y * g - (g * y).sum(axis=-1, keepdims=True)", "in front"),
      (".sum(axis=-1, keepdims=True)", ".sum()", "last axis only"), (".sum(", ".mean(", "not its mean"),
      ("(g - (g", "(g + (g", "does not come out"), ('"c"', '"a"', "sum to 1"), ('"c"', '"b"', "subtract"),
      ("0", "1", "right is")]),
    "4.2": ('''
def back(g, y):
    return g - np.exp(y) * g.sum(axis=-1, keepdims=True)
''', [("np.exp(y)", "y", "the logarithm"), ("g - np", "g + np", "does not come out"), ("sum", "mean", "not its mean"),
      ("g.sum(axis=-1, keepdims=True)", "g", "sum is that of g"), ("axis=-1, keepdims=True", "", "does not come out"),
      ("g - np.exp(y) * g.sum(axis=-1, keepdims=True)",
       "ag.softmax(y) * (g - (g * ag.softmax(y)).sum(-1, keepdims=True))",
       "rule of softmax")]),
    "4.3": ('''
def d_tau(g, x, tau):
    y = ag.softmax(x / tau)
    return -(x * y * (g - (g * y).sum())).sum() / tau**2
cold, hot = [0, 0, 1], [1 / 3, 1 / 3, 1 / 3]
''', [("-(x", "(x", "sign is wrong"), ("tau**2", "tau", "times the right"),
      ("softmax(x / tau)", "softmax(x)", "those of x/τ"),
      ("(x * y", "(y", "does not come out"), ("/ tau**2", "", "times the right"), ("[0, 0, 1]", "[1, 0, 0]", "cold"),
      ("[1 / 3, 1 / 3, 1 / 3]", "[0, 0, 0]", "hot")]),
    "4.4": ('''
def smoothed_back(x, target, epsilon):
    V = x.shape[-1]
    q = (1 - epsilon) * np.eye(V)[target] + epsilon / V
    return (ag.softmax(x) - q) / len(x)
''', [("/ len(x)", "", "mean over the rows"), ("softmax(x) - q", "softmax(x) + q", "does not come out"),
      ("epsilon / V", "epsilon", "shared among"),
      ("(1 - epsilon) * np.eye(V)[target] + epsilon / V", "np.eye(V)[target]",
                                                   "without smoothing"),
      ("(ag.softmax(x) - q)", "(q - ag.softmax(x))", "sign is wrong"), ("len(x)", "x.size", "times the right")]),
    "5.1": ('''
@ag.op
def forgetful(x, eps=1e-5):
    return ag.layer_norm(x, None, None, eps)
@forgetful.gradient("x")
def _(g, y, x, eps=1e-5):
    r = 1 / np.sqrt(x.var(axis=-1, keepdims=True) + eps)
    return r * (g - g.mean(axis=-1, keepdims=True))
cosine, noticed = 0.992, True
''', [("return r * (g - g.mean(axis=-1, keepdims=True))", "return r * g", "only the variance's"),
      ("return r * (g - g.mean(axis=-1, keepdims=True))", "r = r * (g - g.mean(axis=-1, keepdims=True)); "
       "return r - y * (g * y).mean(-1, keepdims=True) / np.sqrt(x.var(axis=-1, keepdims=True) + eps)",
       "the right gradient"),
      ("r * (g -", "(g -", "does not come out"), ("ag.layer_norm(x, None, None, eps)", "x - x.mean(-1, keepdims=True)",
                                              "the value of"),
      ("0.992", "-0.992", "cosine"), ("0.992", "1.0", "cosine"), ("True\n", "False\n", "does notice")]),
    "5.2": ('''
def rms_back(g, x, w):
    r = 1 / np.sqrt((x * x).mean(axis=-1, keepdims=True) + 1e-5)
    hat, h = x * r, g * w
    return r * (h - hat * (h * hat).mean(axis=-1, keepdims=True))
removed = "b"
''', [("h - hat *", "h - h.mean(axis=-1, keepdims=True) - hat *", "no mean to subtract"),
      ("g * w", "g", "w multiplies g"),
      ("hat, h = x * r", "hat, h = x", "not x"), ("(h * hat).mean(", "(h * hat).sum(", "not its sum"),
      ("r * (h", "(h", "does not come out"), ("h - hat *", "h + hat *", "does not come out"),
      ("(h * hat).mean(axis=-1, keepdims=True)", "(h * hat).mean()", "a mean of its own"),
      ('"b"', '"a"', "nothing subtracts"), ('"b"', '"c"', "Only one direction")]),
    "5.3": ("ratio, why = 0.1, 'c'", [("0.1", "10", "100 times"), ("0.1", "1", "10 times"), ("'c'", "'a'", "rounding"),
                                     ("'c'", "'b'", "cancels")]),
    "6.1": ("weight = lambda S: 1 / S\noutput = lambda v: v.mean(axis=0)\nzero = ['k']", [
        ("1 / S", "0", "right is"), ("1 / S", "1", "times the right"),
      ("v.mean(axis=0)", "v.sum(axis=0)", "so it is a mean"),
        ("axis=0", "axis=-1", "rows of v"), ("['k']", "['q', 'k']", "q does not belong"),
      ("['k']", "['q']", "not belong")]),
    "6.2": ('''
def mask_gradient(q, k, v, g):
    p = ag.softmax(q @ k.T / np.sqrt(q.shape[-1]))
    y = p @ v
    return p * (g @ v.T - (g * y).sum(axis=-1, keepdims=True))
''', [("return p", "return q.shape[-1] ** -0.5 * p", "after that"),
      (" - (g * y).sum(axis=-1, keepdims=True)", "", "not subtracted"),
      ("p * (g @ v.T - (g * y).sum(axis=-1, keepdims=True))", "g @ v.T", "softmax comes between"),
      ("return p", "return -p", "sign is wrong"), (" / np.sqrt(q.shape[-1])", "", "does not come out"),
      ("(g @ v.T -", "(g @ v.T +", "does not come out")]),
    "6.3": ('''
def backward_rows(q, k, v, y, g, ell):
    scale = 1 / np.sqrt(q.shape[-1])
    dq, dk, dv = np.zeros_like(q), np.zeros_like(k), np.zeros_like(v)
    for i in range(len(q)):
        row = np.exp(k @ q[i] * scale - ell[i])
        s = row * (v @ g[i] - g[i] @ y[i])
        dq[i] = s @ k * scale
        dk += np.outer(s, q[i]) * scale
        dv += np.outer(row, g[i])
    return dq, dk, dv
''', [("dk += np", "dk = np", "Only the last row"), ("dv += np", "dv = np", "Only the last row"),
      ("s @ k * scale", "s @ k", "scale 1/√d is missing"),
      ("np.outer(s, q[i]) * scale", "np.outer(s, q[i])", "is missing"),
      (" - g[i] @ y[i]", "", "the gradient of q"), (" - ell[i]", "", "the gradient of q"),
      ("range(len(q))", "range(len(q) - 1)", "the gradient of q"), ("np.outer(row, g[i])", "np.outer(s, g[i])", "of v"),
      ("return dq, dk, dv", "return dq", "three arrays")]),
    "7.1": ('''
def rule(g, y, x, sink, scale=1.0):
    return scale * y * (g + (g * y).sum(axis=-1, keepdims=True))
cosine, trains = 0.8, True
''', [("(g + (g", "(g - (g", "That is the right rule"), ("scale * y", "y", "scale belongs in front"),
      ("(axis=-1, keepdims=True)", "()", "each row by itself"), ("0.8", "-0.8", "cosine"), ("0.8", "1.0", "cosine"),
      ("True\n", "False\n", "as low as")]),
    "7.2": ('''
@ag.op
def softcap(x, cap=30.0):
    return cap * np.tanh(x / cap)
@softcap.gradient("x")
def _(g, y, x, cap=30.0):
    return g * (1 - (y / cap) ** 2)
''', [("g * (1 - (y / cap) ** 2)", "g * (1 - (y / cap) ** 2) / cap", "cancel"),
      ("(y / cap) ** 2", "y ** 2", "divide it by c"),
      ("g * (1", "(1", "g is missing"), (" ** 2", "", "square of y/c"), ("g * (1 - ", "g * (1 + ", "does not come out"),
      ("cap * np.tanh", "np.tanh", "softcap(x, cap=2.0)"), ("cap=30.0", "cap=50.0", "30 by default")]),
    "7.3": ("noticed, second = True, 'a'", [("True", "False", "it raises"), ("'a'", "'b'", "on the tape"),
                                           ("'a'", "'c'", "two ways")]),
    "8.1": ('''
def n_parameters(V, T, C, L):
    return (V + T) * C + L * (12 * C**2 + 13 * C) + 2 * C
small, large = 0.31, 0.05
''', [("13 * C) + 2 * C", "2 * C) + C", "without biases"), ("2 * C\n", "C\n", "last norm"),
      ("13 * C", "11 * C", "norms of a layer"),
      ("(V + T)", "(2 * V + T)", "counted once"), ("12 * C**2", "8 * C**2", "n_parameters(V, T, C, L)"),
      ("0.31", "31", "times the right"), ("0.05", "0.31", "large")]),
    "8.2": ('''
def bigram_loss(tokens, V):
    n = np.zeros((V, V))
    np.add.at(n, (tokens[:-1], tokens[1:]), 1)
    p = n / np.maximum(n.sum(axis=1, keepdims=True), 1)
    return -(n * np.log(np.where(n > 0, p, 1))).sum() / n.sum()
agrees = False
''', [("n.sum(axis=1, keepdims=True)", "n.sum()", "its own sum"), ("axis=1", "axis=0", "axis 1"),
      ("return -(n", "return (n", "sign is wrong"), (" / n.sum()", "", "mean over the pairs"),
      ("np.log(", "np.log2(", "nats"),
      ("np.add.at(n, (tokens[:-1], tokens[1:]), 1)", "n[tokens[:-1], tokens[1:]] += 1", "bigram_loss"),
      ("False", "True", "does not see")]),
    "8.3": (MODEL + '''
def step(m, token, place, kept):
    x = m.wte.weight[token] + m.wpe.weight[place]
    C = len(x)
    for block, (keys, values) in zip(m.h, kept):
        q, k, v = (norm(block.ln_1, x) @ block.attn.c_attn.weight).reshape(3, 2, 1, C // 2)
        keys.append(k)
        values.append(v)
        y = ag.attention(q, np.concatenate(keys, axis=1), np.concatenate(values, axis=1))
        x = x + y.reshape(C) @ block.attn.c_proj.weight
        x = x + mlp(block.mlp, norm(block.ln_2, x))
    return norm(m.ln_f, x) @ m.wte.weight.T
''', [("m.wpe.weight[place]", "m.wpe.weight[0]", "place 1"), ("np.concatenate(keys, axis=1)", "k", "raises"),
      ("np.concatenate(values, axis=1)", "np.concatenate(keys, axis=1)", "place 0"),
      ("x = x + mlp", "x = mlp", "place 0"),
      ("keys.append(k)", "keys[:] = [k]; values[:] = []", "place 1"), (" + m.wpe.weight[place]", "", "place 0"),
      ("norm(m.ln_f, x)", "x", "place 0")]),
    "9.1": ('''
culprit = "sqrt"
def root_sum(d):
    return np.where(d > 0, np.sqrt(np.where(d > 0, d, 1.0)), 0.0).sum()
''', [('"sqrt"', '"where"', "not the record"), ('"sqrt"', '"root"', "name of an op"),
      ("np.sqrt(np.where(d > 0, d, 1.0))", "np.sqrt(d)", "not finite"), ("0.0).sum()", "1.0).sum()", "root_sum(d)"),
      ("np.where(d > 0, np.sqrt(np.where(d > 0, d, 1.0)), 0.0)", "np.sqrt(d + 1e-12)", "does not come out"),
      ("np.where(d > 0, np.sqrt(np.where(d > 0, d, 1.0)), 0.0)", "np.sqrt(np.maximum(d, 0.0))", "not finite")]),
    "9.2": ("not_on_tape, culprit = ['w0', 'w1', 'w2', 'w3'], 'sqrt'", [
        ("['w0', 'w1', 'w2', 'w3']", "['w0']", "3 names are missing"),
      ("'w3']", "'w3', 'w_in']", "w_in does not belong"),
        ("'w3']", "'w3', 'b0']", "b0 does not belong"), ("'sqrt'", "'multiply'", "not the record"),
        ("'sqrt'", "'tanh'", "not the record")]),
    "9.3": (DEEP + '''
size, limit = 1.2, "b"
def orthogonal(w):
    return np.linalg.qr(w)[0]
''', [("1.2", "0.5", "times that at the first"), ("1.2", "6.0", "times that at the first"), ("[0]", "[1]", "q.T @ q"),
      ("np.linalg.qr(w)[0]", "w / np.linalg.norm(w, axis=0)", "q.T @ q"),
      ("np.linalg.qr(w)[0]", "np.linalg.inv(w)", "q.T @ q"),
      ('"b"', '"a"', "keeps the length"), ('"b"', '"c"', "multiplies nothing")]),
    "10.1": ("hessian = lambda y: np.diag(y) - np.outer(y, y)\nnegative = False", [
        ("np.diag(y) - np.outer(y, y)", "np.diag(y)", "diagonal alone"),
      ("np.diag(y) - ", "np.diag(y) + ", "does not come out"),
        ("np.diag(y) - np.outer(y, y)", "np.diag(y * (1 - y))", "rest is missing"),
        ("np.diag(y) - np.outer(y, y)", "np.outer(y, y) - np.diag(y)", "sign is wrong"),
      ("False", "True", "a variance")]),
    "10.2": ('''
def gauss_newton(r, p, v):
    u = ag.jvp(r, (p,), (v,))[1]
    return ag.vjp(r, p)[1](u)[0]
''', [("return ag.vjp(r, p)[1](u)[0]", "return u", "the way back"),
      ("return ag.vjp(r, p)[1](u)[0]", "return ag.hvp(lambda p: 0.5 * np.square(r(p)).sum(), p, v)", "Hessian"),
      ("(u)[0]", "(r(p))[0]", "gradient of the loss"), ("(u)[0]", "(-u)[0]", "sign is wrong"),
      ("(u)[0]", "(2 * u)[0]", "2 times the right one")]),
    "10.3": ('''
end, eigenvalues = [0, 0], [-1, 1]
def safe_step(gradient, hessian):
    values, vectors = np.linalg.eigh(hessian)
    return -vectors @ (vectors.T @ gradient / np.maximum(abs(values), 0.1))
''', [("[0, 0]", "[1, 0]", "end"), ("[-1, 1]", "[1, 1]", "eigenvalues"),
      ("return -vectors", "return vectors", "downhill"), ("abs(values)", "1 + abs(values)", "positive"),
      ("return -vectors @", "return -np.linalg.solve(hessian, gradient); -vectors @",
                                               "downhill"),
      ("return -vectors @ (vectors.T @ gradient / np.maximum(abs(values), 0.1))", "return -gradient",
       "positive"),
      ("vectors.T @ gradient", "vectors @ gradient", "downhill")]),
    "10.4": ('''
def estimate(multiply, n, samples, rng):
    signs = rng.choice([-1.0, 1.0], size=(samples, n))
    return np.mean([v @ multiply(v) for v in signs])
''', [("np.mean", "sum", "Divide by the number"),
      ("rng.choice([-1.0, 1.0], size=(samples, n))", "rng.normal(size=(samples, n))",
                                                 "exact for every v"),
      ("v @ multiply(v)", "np.linalg.norm(multiply(v))", "the estimate"),
      ("v @ multiply(v)", "multiply(v).sum()", "the estimate"),
      ("np.mean([v @ multiply(v) for v in signs])", "np.trace(np.array([multiply(e) for e in np.eye(n)]))",
       "one sample"),
      ("v @ multiply(v) for", "v @ multiply(v) / n for", "times the right")]),
    "11.1": ("state, layers, without = 2.0, 12.1, 7.2", [
        ("2.0", "1.5", "two means"), ("2.0", "0.5", "parameters alone"), ("12.1", "3.0", "layers"),
      ("7.2", "12.1", "without"),
        ("2.0", "2e9", "state")]),
    "11.2": ("k, peak, without = 1, 40, 336", [("1, 40", "2, 62", "k, the best"), ("40", "336", "peak"),
      ("40", "28", "peak"),
                                              ("336", "40", "without")]),
    "11.3": ('''
def combine(first, second, n_first, n_second):
    return (n_first * first + n_second * second) / (n_first + n_second)
''', [("(n_first * first + n_second * second) / (n_first + n_second)", "(first + second) / 2", "plain mean"),
      (" / (n_first + n_second)", "", "sum to 1"),
      ("n_first * first + n_second * second", "n_second * first + n_first * second",
                                                   "exchanged"),
      ("/ (n_first", "/ 2 / (n_first", "0.5 times"), ("* first +", "* first -", "does not come out")]),
    "12.1": ("off, changes = 2e-3, False", [("2e-3", "0.0", "near to"), ("2e-3", "0.4", "far from"),
      ("2e-3", "-2e-3", "negative"),
                                           ("False", "True", "argmax"), ("2e-3", "np.ones(3)", "one number")]),
    "12.2": ('''
d_A = lambda x, g, A, B, c: c * x.T @ (g @ B.T)
d_B = lambda x, g, A, B, c: c * (x @ A).T @ g
vanishes = "A"
''', [("c * x.T", "x.T", "factor c"), ("c * (x @ A)", "(x @ A)", "factor c"),
      ("c * x.T @ (g @ B.T)", "c * (x.T @ (g @ B.T)).T", "shape"), ("c * x.T", "-c * x.T", "sign is wrong"),
      ("c * x.T", "c**2 * x.T", "0.5 times"), ('"A"', '"B"', "not belong"), ('"A"', '["A", "B"]', "B does not belong"),
      ("(g @ B.T)", "g", "shape")]),
    "12.3": ('''
def masked_back(logits, targets):
    counts = targets >= 0
    q = np.eye(logits.shape[-1])[np.where(counts, targets, 0)]
    return (ag.softmax(logits) - q) * counts[:, None] / counts.sum()
''', [("/ counts.sum()", "/ len(counts)", "not over all"), (" * counts[:, None]", "", "gets no gradient"),
      (" / counts.sum()", "", "a mean"), ("(ag.softmax(logits) - q)", "(q - ag.softmax(logits))", "sign is wrong"),
      ("(ag.softmax(logits) - q)", "ag.softmax(logits)", "does not come out")]),
    "13.1": ('''
def careful_sum(x):
    total = lost = np.float32(0)
    for value in x:
        y = value - lost
        t = total + y
        lost = (t - total) - y
        total = t
    return total
''', [("value - lost", "value", "apart"), ("value - lost", "value + lost", "apart"),
      ("(t - total) - y", "y - (t - total)",
                                                                                      "apart"),
      ("return total", "return float(total)", "returns a np.float32"),
      ("return total", "return x.astype(float).sum()", "float64"),
      ("return total", "return total + x[0]", "apart"), ("return total", "return np.cumsum(x)[-1]", "apart")]),
    "13.2": ('''
features = 0.003 * np.ones((4, 2))
def half_precision(scale, features):
    return np.float16(np.float16(scale) * np.float16(np.square(features).sum()))
largest, why = 8, "a"
''', [("8, ", "4, ", "is finite, too"), ("8, ", "16, ", "is not finite"), ("8, ", "9.0, ", "power of two"),
      ('"a"', '"b"', "no digit"), ('"a"', '"c"', "grow, too")]),
    "13.3": ("bound, atol = lambda n, magnitude: np.log2(n) * 2.0**-24 * magnitude, 1e-6", [
        ("np.log2(n)", "n", "from left to right"), ("2.0**-24", "2.0**-23", "half of eps"),
      ("np.log2", "np.log", "base 2"),
        (" * magnitude", "", "does not come out"), ("1e-6", "1e-3", "would pass"),
      ("1e-6", "1e-9", "less than the rounding")]),
    "14.1": ('''
def add_one(pairs):
    return (pairs + 1) / (pairs + 1).sum(axis=1, keepdims=True)
why = "a"
''', [("(pairs + 1) /", "pairs /", "does not come out"), ("axis=1", "axis=0", "of the rows"),
      ("(pairs + 1).sum(axis=1, keepdims=True)", "1", "add up to 1"),
      ("axis=1, keepdims=True", "", "chance of the pair"),
      ("/ (pairs + 1).sum(", "/ (pairs + 1e-9).sum(", "does not come out"), ('"a"', '"b"', "divided by its sum"),
      ('"a"', '"c"', "rare ones more")]),
    "14.2": ('''
def bits_per_byte(loss, bytes_per_token):
    return loss / np.log(2) / bytes_per_token
better = "tokens"
''', [("/ np.log(2)", "", "nats per byte"), ("/ np.log(2)", "* np.log(2)", "more than one bit"),
      ("/ bytes_per_token", "", "bits per token"), ("/ bytes_per_token", "* bytes_per_token", "fewer bits"),
      ('"tokens"', '"characters"', "1.02 bytes"), ('"tokens"', '"both"', "or")]),
    "14.3": ('''
def rung(loss, rungs):
    found, lowest = -1, np.inf
    for n, value in enumerate(rungs):
        if value < lowest and loss < value:
            found = n
        lowest = min(lowest, value)
    return found
''', [("value < lowest and ", "", "no rung"), ("found, lowest = -1", "found, lowest = 0", "does not come out"),
      ("loss < value", "loss <= value", "does not come out"), ("return found", "return found + 1", "counts from 0"),
      ("loss < value", "loss > value", "does not come out")]),
}
WRONG = [(number, old, new, words) for number, (_, wrong) in ANSWERS.items() for old, new, words in wrong]


def verdict(number, source):
    names = {"np": np, "ag": ag, "gpt": gpt}
    exec(source, names)
    parameters = EXERCISES[number].cases.__code__.co_varnames[:EXERCISES[number].cases.__code__.co_argcount]
    return judge(number, *(names[name] for name in parameters))


def test_every_exercise_has_a_right_answer_and_wrong_ones_here():
    assert EXERCISES.keys() == ANSWERS.keys() and len(WRONG) >= 200
    assert all(len(wrong) >= 3 for _, wrong in ANSWERS.values())


@pytest.mark.parametrize("number", ANSWERS)
def test_a_right_answer_is_accepted(number, new_op):
    assert verdict(number, ANSWERS[number][0]).text == f"Exercise {number} is right."


@pytest.mark.parametrize("number, old, new, words", WRONG)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_wrong_answer_is_refused_and_told_why(number, old, new, words, new_op):
    right = ANSWERS[number][0]
    assert old in right
    found = verdict(number, right.replace(old, new))
    assert found.right is False and words in found.text and "\nHint: " in found.text
