"""A VJP rule with its numbers put in says what was sent, for every op."""

import re

import numpy as np
import pytest

import autograd as ag
from autograd.core.registry import REGISTRY
from autograd.view.backward import backward_pass
from autograd.view.card.card import Card
from autograd.view.card.jacobian import find_needed
from autograd.view.card.numbers import numbers_of_rule, put_numbers, rule_with_numbers
from tests.samples import SAMPLES

DIGITS = "⁰¹²³⁴⁵⁶⁷⁸⁹⁻"
FUNCTIONS = {"ln": np.log, "sigmoid": lambda x: 1 / (1 + np.exp(-x)), "max": max, "softmax": np.ones_like,
             **{name: getattr(np, name) for name in "exp sin cos sinh cosh tanh sign trunc".split()}}
CONSTANTS = {"e": np.e, "π": np.pi, "½": 0.5}


class Calculator:
    """A calculator for expressions of numbers in the notation of the rules."""

    def __init__(self, text):
        self.tokens = [*re.findall(rf"\d[\d.]*(?:e[−+]?\d+)?|[{DIGITS}]+|[a-zπ]+|\S", text), ""]
        self.i = 0

    def take(self, *choices):
        """Take the next token if it is one of the choices."""
        token = self.tokens[self.i]
        if token and token in choices:
            self.i += 1
            return token
        return ""

    def sum(self):
        value = self.product()
        while sign := self.take("+", "−"):
            value = value + self.product() if sign == "+" else value - self.product()
        return value

    def product(self):
        value = self.signed()
        while True:
            if self.take("/"):
                value = value / self.signed()
            elif self.take("⊙", "·") or re.match(r"[\w([√½⌊]", self.tokens[self.i]):  # side by side: times
                value = value * self.signed()
            else:
                return value

    def signed(self):
        return -self.signed() if self.take("−") else self.power(self.atom())

    def power(self, value):
        if re.match(rf"[{DIGITS}]", token := self.tokens[self.i]):
            self.i += 1
            plain = token.translate(str.maketrans(DIGITS, "0123456789-"))
            value = value ** sum(map(float, re.findall("-?[0-9]+", plain)))  # 2³⁻¹ is 2 to the power 3 − 1
        return value

    def atom(self):
        token = self.tokens[self.i]
        self.i += 1
        if token[0].isdigit():
            return float(token.replace("−", "-"))
        if token == "(":
            values = [self.sum()]
            while self.take(","):
                values.append(self.sum())
            assert self.take(")")
            return values[0] if len(values) == 1 else values
        if token == "⌊":
            value = self.sum()
            assert self.take("⌋")
            return np.floor(value)
        if token == "[":
            return self.brackets()
        if token == "Σ":
            return np.sum(self.product())
        if token == "√":
            return np.sqrt(self.power(self.atom()))
        if token in CONSTANTS:
            return CONSTANTS[token]
        raised = self.tokens[self.i] if self.tokens[self.i][:1] in DIGITS and self.tokens[self.i] else ""
        self.i += bool(raised)
        value = FUNCTIONS[token](self.power(self.atom()))
        return value ** DIGITS.index(raised) if raised else value

    def brackets(self):
        """A vector, or a comparison that gives 1 or 0."""
        values = []
        while not self.take("]"):
            if sign := self.take("<", ">", "="):
                values = [{"<": np.less, ">": np.greater, "=": np.equal}[sign](values[0], self.signed()) * 1.0]
                assert self.take("]")
                return values[0]
            values.append(self.signed())
        return np.array(values)


def evaluate(text):
    """Compute an expression of numbers."""
    calculator = Calculator(text)
    value = calculator.sum()
    assert not calculator.tokens[calculator.i], text
    return value


@pytest.mark.parametrize("text, value", [
    ("1 ⊙ (−3)", -3), ("2 / (2 · 4)", 0.25), ("1 ⊙ 3 · 2³⁻¹", 12), ("−1 ⊙ 2² / √(1 − 0.6²)", -5),
    ("2 ln 2", 2 * np.log(2)), ("4 / cosh² 0", 4), ("e²", np.e**2), ("[1 −2] ⊙ (3 − Σ [1 1]⊙[2 3])", [-2, 4]),
    ("1 ⊙ ([2 > 1] + ½ [2 = 2])", 1.5)])
def test_the_calculator(text, value):
    assert np.allclose(evaluate(text), value)


def scalars():
    """Yield (record, place, gradient, sent) of every op that takes one or two scalars, at several points."""
    random = np.random.default_rng(0)
    for name, op in sorted(REGISTRY.items()):
        if not (op.rules and name in SAMPLES and len(op.parameters) <= 2 and op.star is None):
            continue
        for a, b in [(0.3, -0.7), (2.0, 3.0), (-1.5, 0.4), (0.5, 0.5)]:
            x = [ag.tensor(v, requires_grad=True) for v in (a, b)][:len(op.parameters)]
            try:
                with np.errstate(all="ignore"):
                    t = op(*x)
                    if t.op is not op or t.shape or not np.isfinite(t.data):
                        continue
                    t.backward(np.asarray(random.normal()), keep=True)
                    for u, g, sent in backward_pass(ag.tape(t)):
                        if u is t:
                            yield from ((t, place, g, d) for place, (_, d) in zip(find_needed(t), sent))
            except (TypeError, ValueError, IndexError):
                continue


def test_numbers_put_into_a_rule_give_what_is_sent():
    tried, ops = 0, set()
    for t, place, g, sent in scalars():
        if numbers := numbers_of_rule(t, place, g, sent):
            with np.errstate(all="ignore"):
                assert np.allclose(evaluate(numbers), sent, rtol=5e-3, atol=2e-3), (t.op.name, numbers, sent)
            tried, ops = tried + 1, ops | {t.op.name}
    assert tried > 80 and {"multiply", "divide", "power", "tanh", "sqrt", "arctan2", "maximum", "sigmoid"} <= ops


@pytest.mark.parametrize("formula, text", [
    ("g ⊙ y", "2 ⊙ (−3)"), ("−g ⊙ x", "−2 ⊙ 0.5"), ("g / 2y", "2 / (2 · (−3))"), ("2 g ⊙ x", "2 · 2 ⊙ 0.5"),
    ("g / cosh² x", "2 / cosh² 0.5"), ("y²", "(−3)²"), ("g ⊙ v", "2 ⊙ [1 −2]"), ("g xᵏ⁻¹", "2 · 0.5⁴⁻¹"),
    ("g (1 + y)", "2 · (1 + (−3))"), ("g y ln 2", "2 · (−3) · ln 2"), ("g softmax(x)", "2 · softmax(0.5)"),
    ("√(1 − x²)", "√(1 − 0.5²)"), ("v ⊙ (g − Σ g⊙v)", "[1 −2] ⊙ (2 − Σ 2⊙[1 −2])"),
    ("g wᵀ", ""), ("gᵢ", ""), ("g where x > 0, else 0", ""), ("s k · scale, s = p", ""), ("g big", ""), ("g ⊙ m", "")])
def test_numbers_in_place_of_symbols(formula, text):
    values = {"g": 2.0, "y": -3.0, "x": np.float64(0.5), "v": np.array([1.0, -2.0]), "k": 4, "big": np.ones(9),
              "m": np.ones((2, 2)), "w": np.ones(2)}
    assert put_numbers(formula, values) == text


def test_what_is_too_large_or_summed_has_no_numbers():
    x, v = ag.tensor(2.0, requires_grad=True), ag.tensor([1.0, 2.0], requires_grad=True)
    for t in (x * v, ag.tensor(np.ones(9), requires_grad=True) * 2.0, ag.tensor([[1.0]], requires_grad=True) * 2.0):
        g = np.ones(t.shape)
        _, _, sent = next(iter(backward_pass(ag.tape(t))))
        assert rule_with_numbers(t, 0, g, sent[0][1]) == ""
    y = x * v
    _, _, sent = next(iter(backward_pass(ag.tape(y))))
    assert rule_with_numbers(y, 1, np.ones(2), sent[1][1]) == "g ⊙ x = [1 1] ⊙ 2"


def test_cards_steps_and_arrows_show_the_rule_with_its_numbers():
    x, w = ag.tensor(2.0, requires_grad=True, name="x"), ag.tensor(-3.0, requires_grad=True, name="w")
    y = x * w
    y.backward()
    assert "∂L/∂x = g ⊙ y = 1 ⊙ (−3)" in repr(Card(y)) and "= 1 ⊙ (−3)" in Card(y)._repr_html_()
    stop = ag.tape(y).stepper().run()
    assert "sends to %0 'x': -3.   g ⊙ y = 1 ⊙ (−3)" in repr(stop) and "= 1 ⊙ (−3)" in stop._repr_html_()
    assert "gradient: -3 = g ⊙ y = 1 ⊙ (−3)" in ag.tape(y).draw().source


def test_a_rule_that_fails_or_has_no_formula_is_no_trouble():
    x = ag.tensor([3.0, 1.0], requires_grad=True)
    for t in (x.sum(), x.max(), ag.relu(x), x[0], np.concatenate([x, x]), ag.split(x, 2)[0]):
        for stop in ag.tape(t).stepper():
            assert repr(stop) and isinstance(stop.rules, list)
