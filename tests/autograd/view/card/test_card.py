"""The card of a record: every op of the registry, right and wrong rules, and whatever a record may be."""

import re
import warnings
from html.parser import HTMLParser

import numpy as np
import pytest

import autograd as ag
from autograd.view.card.card import Card
from autograd.view.reprs_html import tape_html, tensor_html
from tests.duck import Duck
from tests.samples import SAMPLES

rng = np.random.default_rng(0)
ALLOWED = {"div", "p", "b", "i", "sup", "sub", "code", "small", "table", "thead", "tbody", "tr", "th", "td", "details",
           "summary", "img"}


class Reader(HTMLParser):
    """A parser that refuses HTML that a notebook's sanitizer removes, and tags that are not closed in order."""

    def __init__(self, html):
        super().__init__()
        self.open, self.text = [], ""
        self.feed(html)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        assert tag in ALLOWED, tag
        assert all(name in ("style", "align", "valign", "src", "alt", "title", "width", "height", "open")
                   for name, _ in attrs), attrs
        assert all(value.startswith("data:image/png;base64,") for name, value in attrs if name == "src")
        if tag != "img":
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def both(card):
    """Return the text of a card, once its HTML has been parsed too."""
    Reader(card._repr_html_())
    return repr(card)


def parameter(*shape, name="x"):
    return ag.tensor(rng.normal(size=shape), requires_grad=True, name=name)


def recorded(op, sample):
    """Return the record of an op applied to a sample whose floating-point arrays are all parameters."""
    args, attrs = (sample[:-1], sample[-1]) if isinstance(sample[-1], dict) else (sample, {})
    inputs, attrs = op.bind(tuple(args), attrs)
    is_float = [getattr(getattr(a, "dtype", None), "kind", "") == "f" and not isinstance(a, type) for a in inputs]
    made = op.apply(tuple([ag.tensor(a, requires_grad=True) if f else a for a, f in zip(inputs, is_float)]), attrs)
    return made[0].inputs[0] if isinstance(made, tuple) else made


@pytest.mark.slow_but_every(9)
@pytest.mark.parametrize("op", [op for op in ag.REGISTRY.values() if op.differentiable and op.name in SAMPLES],
                         ids=lambda op: op.name)
def test_every_op_has_a_card_and_its_gradients_agree(op):
    compared = 0
    for sample in SAMPLES[op.name]:
        t = recorded(op, sample)
        card = Card(t)
        text = both(card)
        assert not card.note and op.name in text and " is NOT " not in text
        residuals = [row.residual for row in card.rows if row.residual]
        assert residuals and all(residual.agrees for residual in residuals), text
        compared += any("digits" in residual.text for residual in residuals)
    assert compared


def test_numbers_of_a_card_are_right():
    x = parameter(3)
    y = ag.softmax(x)
    card = Card(y, (y * np.array([1.0, 2.0, 4.0])).sum())
    p, j = y.data, np.diag(y.data) - np.outer(y.data, y.data)
    of_y, of_x = card.rows
    assert np.allclose(of_x.jacobian, j, rtol=1e-12, atol=1e-15) and np.allclose(of_y.gradient, [[1, 2, 4]])
    assert np.allclose(of_x.gradient[0], [1, 2, 4] @ j) and np.array_equal(of_x.value[0], x.data)
    text = both(card)
    for part in ("y = exp(x) / Σ exp(x)", "∂L/∂x = y ⊙ (g − Σ g⊙y)", "∂y/∂x, 3 × 3", f"{p[0]:.4g}", f"{j[0, 1]:.4g}",
                 "agrees with finite differences to 1", "where L is sum", "Probabilities along `axis`"):
        assert part in text, (part, text)
    k = int(np.argmax(abs(np.array([1, 2, 4]) @ j)))
    terms = " + ".join(f"{g} · {d:.4g}" for g, d in zip([1, 2, 4], j[:, k]))
    assert f"the largest, at [{k}]: {terms} = {np.array([1, 2, 4]) @ j[:, k]:.4g}" in text


def test_a_jacobian_has_a_row_for_each_output_and_a_column_for_each_input():
    x, w = parameter(2, 3), parameter(3, 2, name="w")
    of_z, of_x, of_w = Card(x @ w).rows
    jacobian = ag.jacobian(lambda w: x.data @ w)(w.data).reshape(4, 6)
    assert np.allclose(of_w.jacobian, jacobian) and of_x.jacobian.shape == (4, 6)
    assert Card(x @ w.T.T).rows[2].description.startswith("%")


def test_the_gradient_that_backward_kept_is_shown():
    x = parameter(3)
    y = np.tanh(x)
    assert "all ones" in both(Card(y)) and "explain(loss)" in both(Card(y))
    (y * np.array([3.0, -1.0, 2.0])).sum().backward(keep=True)
    card = Card(y)
    assert "kept by backward(keep=True)" in both(card)
    assert np.array_equal(card.rows[0].gradient[0], [3.0, -1.0, 2.0])
    assert np.array_equal(card.rows[1].gradient[0], x.grad)


def test_a_loss_that_the_record_is_not_behind():
    x = parameter(3)
    with pytest.raises(ValueError, match="tanh f64\\[3\\] is not behind this loss: see ag.tape"):
        Card(np.tanh(x), x.sum())


def test_freed_values_come_back_and_go_again():
    x = parameter(3)
    hidden = np.tanh(x)
    y = hidden * hidden
    loss = y.sum()
    loss.backward()
    grad = x.grad.copy()
    assert y._array is None and hidden._array is None
    for card in (Card(y), Card(y, loss), Card(hidden, loss)):
        assert not card.note and card.rows[0].value
        both(card)
    assert y._array is None and hidden._array is None and np.array_equal(x.grad, grad)
    assert y._grad is None and loss._array is not None
    assert np.allclose(Card(hidden, loss).rows[0].gradient[0], 2 * hidden.data)


def test_a_leaf_that_was_changed_since():
    x = parameter(3)
    hidden = np.exp(x)
    y = np.tanh(hidden)
    x.data = x.data + 1
    text = both(Card(hidden))
    assert "No numbers: leaf 'x' f64[3] was changed after exp" in text and "∂L/∂x = g ⊙ y" in text
    assert "call backward before assigning t.data" in text and "\n  %" not in text
    assert Card(hidden).rows[0].value and not Card(hidden).rows[1].value  # y is as it was made, x is not
    assert "agrees" in both(Card(y))  # its own input is as it was


def broken(rule, name="planted", formula=lambda x: np.exp(2 * x)):
    def planted(x):
        return formula(x)
    op = ag.Op(planted)
    planted_rule = lambda g, y, x: rule(g, y, x)  # noqa: E731
    op.gradient("x")(planted_rule)
    return op


@pytest.mark.parametrize("rule, cause", [
    (lambda g, y, x: g * y, "It is 0.5 times as large"),
    (lambda g, y, x: -2 * g * y, "Its sign is wrong"),
    (lambda g, y, x: 2 * y, "does not use g"),
    (lambda g, y, x: g * 0, "It is 0 everywhere"),
    (lambda g, y, x: 2 * g * y + np.nan, "It is not finite"),
    (lambda g, y, x: 2 * g * y + np.sin(np.arange(y.size).reshape(y.shape) + 1), ""),
])
@pytest.mark.parametrize("shape", [(), (3,), (2, 2), (100,)])
def test_a_planted_mistake_is_shown_with_its_cause(rule, cause, shape):
    card = Card(broken(rule)(parameter(*shape)))
    text = both(card)
    assert card.rows[1].residual.agrees is False
    assert "DIFFERS from finite differences" in text and cause in text
    assert "✗" in card._repr_html_() and "✓" not in card._repr_html_()
    assert (", at 8 of its 100 elements" in text) == (shape == (100,))


def test_the_index_of_a_mistake_in_a_large_array_is_the_arrays_own():
    def slip(g, y, x):
        d = 2 * g * y
        return np.where(np.arange(500).reshape(5, 100) == 321, d + 1e4, d)
    assert "at index (3, 21) it is" in both(Card(broken(slip)(parameter(5, 100))))


def test_a_rule_that_is_not_linear_in_g():
    y = broken(lambda g, y, x: 2 * g * g * y)(parameter(2))
    (y * np.array([2.0, 3.0])).sum().backward(keep=True)
    assert "g · J is NOT the gradient sent" in both(Card(y))


@pytest.mark.parametrize("rule, message", [
    (lambda g, y, x: np.ones((7, 7)), "a gradient rule returned shape (7, 7)"),
    (lambda g, y, x: None, "TypeError: a gradient rule returned None"),
    (lambda g, y, x: 1 / 0, "ZeroDivisionError"),
    (lambda g, y, x: g.__setitem__(0, 1), "read-only"),
])
def test_a_rule_that_fails(rule, message):
    text = both(Card(broken(rule)(parameter(2))))
    assert "No numbers: in the gradient of planted" in text and message in text


def test_a_kernel_is_checked_as_backward_runs_it():
    class Wrong:
        @staticmethod
        def forward(executor, x):
            return np.exp(2 * x), None

        @staticmethod
        def backward(executor, needed, g, y, saved, x):
            return [g * y]

    op = broken(lambda g, y, x: 2 * g * y)
    op.kernels = {np.ndarray: Wrong}
    assert "DIFFERS" in both(Card(op(parameter(2))))


def test_places_that_cannot_be_compared():
    kink = ag.relu(ag.tensor([0.0, 1.0], requires_grad=True))
    assert "not compared: not differentiable: x at index (0,) (value 0) is a kink" in both(Card(kink))
    late = ag.relu(ag.tensor(np.arange(300) < 17, float, requires_grad=True))
    assert re.search(r"not compared: .* x at index \(\d\d+,\)", both(Card(late)))  # in x, and not among those tried
    huge = np.negative(ag.tensor(np.zeros(600_000, np.float32), requires_grad=True))
    assert "not compared: 1,200,000 numbers are too many" in both(Card(huge))


def test_numbers_that_are_not_finite_need_no_warnings():
    with np.errstate(all="ignore"):
        records = [op(ag.tensor(x, requires_grad=True)) for op, x in (
            (np.exp, [np.nan, 1.0]), (np.log, [-1.0, 0.0, np.inf]), (np.square, [1e200, 1.0]),
            (np.sqrt, [-1.0] * 90), (np.exp, [1e4] * 90))]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        texts = [both(Card(t)) for t in records]
        assert tensor_html(records[0]) and not any("No numbers" in text for text in texts)
    assert "not compared: nothing to compare with: f is not finite" in texts[0] and "nan" in texts[0]


@pytest.mark.parametrize("x", [np.array(2.0), np.float32(0.5), np.zeros((0, 3)), np.zeros((3, 0), np.float32),
                               np.ones((2, 1, 2)), rng.normal(size=(2, 3, 40)).astype(np.float32)])
def test_arrays_of_every_shape(x):
    x = ag.tensor(x, requires_grad=True)
    card = Card(np.tanh(x) * x)
    assert "multiply" in both(card) and not card.note
    assert ("no elements" in both(card)) == (x.size == 0)
    assert all(row.residual.agrees for row in card.rows[1:])


@pytest.mark.parametrize("size, shown", [(8, "numbers"), (9, "picture"), (64, "picture"), (65, "nothing")])
def test_what_is_shown_of_a_jacobian(size, shown):
    card = Card(np.tanh(parameter(size)))
    html = card._repr_html_()
    fold = html.partition("<details")[2]
    assert ("<td" in fold, "<img" in fold) == {"numbers": (True, False), "picture": (False, True),
                                               "nothing": (False, False)}[shown]
    assert ("Jacobian: 65 × 65 numbers, too many to show" in repr(card)) == (shown == "nothing")


def test_leaves():
    w = parameter(2, 2, name="w")
    text = both(Card(w))
    assert "%0 'w' f64[2,2] = parameter" in text and "test_card.py:" in text and "backward gathers its gradient" in text
    (w * 2).sum().backward()
    assert "gathered by backward" in both(Card(w)) and Card(w).rows[0].gradient[0].tolist() == [[2, 2], [2, 2]]
    card = Card(w)
    before = repr(card)
    w.data = w.data + 1
    (w * 2).sum().backward()
    assert repr(card) == before  # as it was then
    constant = ag.tensor([1, 2])
    assert "no gradient flows to it" in both(Card(constant))
    y = w * constant
    assert "constant: no gradient flows to it" in both(Card(y)) and Card(y).rows[2].residual is None
    assert np.array_equal(Card(w, y.sum()).rows[0].gradient[0], [[1, 2], [1, 2]])
    assert "nothing comes here from this loss" in both(Card(constant, y.sum()))
    (w * w).sum().backward(create_graph=True)
    assert "gathered by backward" in both(Card(w))


def test_tuples_of_arrays():
    x = parameter(4)
    a, b = ag.split(x, 2)
    made = a.inputs[0]
    text = both(Card(made))
    assert "(f64[2], f64[2])" in text and len(Card(made).rows[0].value) == 2
    assert np.array_equal(Card(made).rows[1].jacobian, np.eye(4))
    card = Card(made, (3 * a).sum())  # of b nothing is used
    assert np.array_equal(card.rows[1].gradient[0], [3, 3, 0, 0])
    item = Card(b)
    both(item)
    assert not item.note and np.array_equal(np.concatenate(item.rows[1].gradient), [0, 0, 1, 1])
    assert np.array_equal(item.rows[1].jacobian, np.eye(4)[2:])


def test_the_record_of_a_call_that_failed():
    x = parameter(2, 3)
    with pytest.raises(ValueError) as caught:
        x @ x
    text = both(caught.value.record.explain())
    assert "It failed: matmul: Input operand 1 has a mismatch" in text and "zᵢⱼ = Σₖ xᵢₖ yₖⱼ" in text
    assert f"{x.data[0, 0]:.4g}" in text  # what it was given


def test_a_bad_number_found_by_detect_anomaly():
    x = ag.tensor([0.0, 1.0], requires_grad=True)
    with ag.detect_anomaly(), pytest.raises(FloatingPointError) as caught, np.errstate(divide="ignore"):
        np.log(x) - 1
    text = both(caught.value.record.explain())
    assert "-inf" in text and "log" in text
    with ag.detect_anomaly():  # the gradient is infinite: a card shows that, and does not stop at it
        assert "  inf  " in both(Card(np.sqrt(x)))


def test_arrays_of_another_library():
    x = ag.tensor(Duck(np.array([1.0, 2.0])), requires_grad=True)
    text = both(Card(np.exp(x)))
    assert "No numbers: TypeError: not a NumPy array but a Duck" in text and "∂L/∂x = g ⊙ y" in text
    both(Card(x))
    Reader(tensor_html(x))


def test_hostile_names_are_shown_and_nothing_else():
    x = parameter(2, name="<script>alert(1)</script>")
    with ag.scope("<img src=x onerror=alert(1)>"):
        y = np.tanh(x)
    for html in (Card(y)._repr_html_(), tensor_html(x), tensor_html(y), tape_html(ag.tape(y))):
        assert "<script" not in html and "<img src=x" not in html
        assert re.search("alert\\(1\\)", Reader(html).text)


def test_a_users_op_needs_no_more_than_its_docstrings():
    def cube(x):
        """y = x³    Steep."""
        return x ** 3
    op = ag.Op(cube)

    @op.gradient("x")
    def _(g, y, x):
        """∂L/∂x = 3 g ⊙ x²"""
        return 3 * g * x * x

    card = Card(op(parameter(3)))
    assert "y = x³" in both(card) and "∂L/∂x = 3 g ⊙ x²" in both(card) and "agrees" in both(card)
    assert "<i>y</i> = <i>x</i><sup>3</sup>" in card._repr_html_()


def test_a_deep_tape_after_backward():
    x = parameter(2)
    y = x
    for _ in range(5000):
        y = y + 1e-3
    loss = y.sum()
    loss.backward()
    assert "%5000 f64[2] = add(%4999, 0.001)" in both(Card(y, loss)) and y._array is None


def test_explain_is_a_tensors_method():
    assert isinstance(parameter(2).explain(), Card)


# ---------------------------------------------------------------------- a Tensor and a Tape in a notebook


def test_a_tensor_in_a_notebook():
    small, large = parameter(2, 2), parameter(20, 30)
    assert f"{small.data[0, 0]:.4g}" in Reader(tensor_html(small)).text and "parameter" in tensor_html(small)
    assert "<details><summary>" in tensor_html(large) and "<img" in tensor_html(large)
    y = np.tanh(small)
    y.sum().backward()
    assert "has a gradient" in tensor_html(small) and "gradient</summary>" in tensor_html(small)
    assert "by tanh" in tensor_html(y) and "freed" in tensor_html(y) and y._array is None
    for t in (ag.split(small, 2)[0].inputs[0], ag.tensor(3), ag.tensor(np.zeros((0, 2))), ag.tensor([True])):
        Reader(tensor_html(t))
    (small * small).sum().backward(create_graph=True)
    Reader(tensor_html(small))
    with pytest.raises(ValueError) as caught:
        small @ large
    Reader(tensor_html(caught.value.record))


def test_a_tape_in_a_notebook():
    x = parameter(2)
    short = ag.tape(np.tanh(x).sum())
    text = Reader(tape_html(short)).text
    assert "Tape of 3 records" in text and "%1" in text and "tanh(%0)" in text and "test_card.py" in text

    def block(x, i):
        with ag.scope(f"h.{i}"), ag.scope("mlp"):
            return np.tanh(np.exp(x) * 2 + x)
    for i in range(12):
        x = block(x, i)
    html = tape_html(ag.tape(x))
    Reader(html)
    assert "<details><summary><b>h.1</b> · 4 records · 11 identical" in html and "identical to h.1</summary>" in html
    assert all(f"%{i}<" in html for i in range(49))


def test_a_long_tape_in_a_notebook_is_short():
    x = parameter(2)
    for _ in range(5000):
        x = x + 1
    html = tape_html(ag.tape(x))
    assert "… 4,961 more …" in Reader(html).text and len(html) < 30_000


def test_of_many_inputs_the_card_shows_the_first_and_the_last():
    xs = [parameter(2, 2, name=f"x{i}") for i in range(40)]
    xs[3] = np.ones((2, 2))
    made = np.concatenate(xs)
    card, text = Card(made, made.sum()), both(Card(made, made.sum()))
    assert [row.name for row in card.rows] == ["y", *[f"xs[{i}]" for i in range(8)], "",
                                              *[f"xs[{i}]" for i in range(32, 40)]]
    assert card.rows[9].description == "… 24 more inputs …" and "%7, … 24 more …, %32" not in text
    for row in card.rows[1:]:
        if row.place not in (-1, 3):
            assert row.residual.agrees and row.gradient[0].tolist() == [[1, 1], [1, 1]]
            assert np.array_equal(row.value[0], xs[row.place].data)
    assert not card.rows[4].gradient and card.rows[4].remarks == ["an array: no gradient flows to it"]


def test_of_many_arrays_in_a_tuple_the_card_shows_the_first_and_the_last():
    x = parameter(40, 2)
    item = np.split(x, 40)[3]
    cut, one = Card(item.inputs[0]), Card(item)
    for value in (cut.rows[0].value, cut.rows[0].gradient, one.rows[1].value, one.rows[1].gradient):
        assert len(value) == 17 and value[8] == "… 24 more arrays …"
    assert np.array_equal(cut.rows[0].value[9], x.data[32:33]) and one.rows[1].gradient[3].tolist() == [[1, 1]]
    assert "(40 × f64[1,2])" in both(cut) and cut.rows[1].residual.agrees and "24 more arrays" in both(one)


def test_so_many_arrays_are_not_compared():
    text = both(Card(np.concatenate([parameter(1) for _ in range(2100)])))
    assert "not compared: 2,101 arrays are too many to try" in text


# ---------------------------------------------------------------------- masks, kinks, and what has no derivative
INF = np.inf


def masked(*shape):
    """Return random numbers, of which those above the diagonal are −inf."""
    return ag.tensor(np.where(np.tri(*shape), rng.normal(size=shape), -INF), requires_grad=True, name="scores")


@pytest.mark.parametrize("make", [
    lambda: ag.softmax(masked(3, 3)), lambda: ag.softmax(masked(20, 20)), lambda: ag.log_softmax(masked(3, 3)),
    lambda: ag.logsumexp(masked(3, 3), axis=-1), lambda: masked(3, 3).max(axis=-1), lambda: np.exp(masked(2, 2)),
    lambda: ag.cross_entropy(masked(3, 3), np.array([0, 1, 2])), lambda: np.tanh(masked(2, 2)),
    lambda: np.where(np.tri(3) > 0, parameter(3, 3), -INF), lambda: parameter(3, 3) + np.where(np.tri(3), 0, -INF),
    lambda: ag.attention(*(parameter(3, 2) for _ in "qkv"), mask=np.tri(3, dtype=bool)),
    lambda: ag.attention(*(parameter(3, 2) for _ in "qkv"), mask=np.where(np.tri(3), 0.0, -INF)),
    lambda: np.concatenate([masked(2, 2), parameter(2, 2)])])
def test_masked_numbers_are_explained_and_compared_where_they_are_finite(make):
    with np.errstate(all="ignore"):
        card = Card(make())
    text = both(card)
    assert "Error" not in text and "DIFFERS" not in text and "not compared" not in text, text
    assert all(row.residual.agrees for row in card.rows if row.residual)
    assert re.search(r"masked: \d+ of \d+ are (−inf|False)", text)


@pytest.mark.parametrize("x", [[1.0, -INF, 2.0], [-INF, -INF], [INF, 1.0], [np.nan, 1.0], [-INF], [1e308, -1e308]])
@pytest.mark.parametrize("f", [ag.softmax, ag.log_softmax, np.exp, np.tanh, np.negative, lambda x: np.square(x).sum()])
def test_numbers_that_are_not_finite_fail_with_a_reason_if_at_all(f, x):
    with np.errstate(all="ignore"), warnings.catch_warnings(action="ignore"):
        text = both(Card(f(ag.tensor(x, requires_grad=True))))
        assert "OverflowError" not in text and "Error:" not in text, text
        try:
            ag.check_grads(f, np.array(x))
        except (ValueError, AssertionError) as error:  # and no OverflowError
            assert str(error)


def test_a_mask_says_what_gets_nothing():
    card = Card(ag.softmax(masked(3, 3)))
    assert "masked: 3 of 9 are −inf, and no gradient is sent to them" in card.rows[1].notes
    x = parameter(2, 2)
    card = Card(np.where(np.array([[True, False], [True, True]]), x, -INF))
    assert "masked: 1 of 4 are False" in card.rows[1].notes and not card.rows[2].notes
    assert Card(np.exp(x)).rows[1].notes == []


def test_kinks_are_named_and_the_rest_is_compared():
    x = ag.tensor([0.0, 1.0, -1.0, 0.0], requires_grad=True, name="x")
    residual = Card(ag.relu(x)).rows[1].residual
    assert residual.agrees and "at 2 of its 4 elements" in residual.text
    assert "not compared: not differentiable: x at index (0,) (value 0) is a kink" in residual.text
    assert "nor at 1 more" in residual.text
    all_kinks = Card(ag.relu(ag.tensor([0.0], requires_grad=True))).rows[1].residual
    assert all_kinks.agrees is None and all_kinks.text.startswith("not compared: not differentiable")


def test_what_has_no_derivative_is_named():
    table, ids = parameter(3, 2), ag.tensor([0, 2])
    assert "constant: no gradient flows to it (integers have no derivative)" in both(Card(ag.embedding(ids, table)))
    picked = ag.embedding(np.array([0, 2]), table)
    assert "an array: no gradient flows to it (integers have no derivative)" in both(Card(picked))
    assert "A constant: no gradient flows to it (integers have no derivative)" in both(Card(ids))
    assert "(booleans have no derivative)" in both(Card(table > 0))
    assert "no derivative" not in both(Card(table * ag.tensor(2.0))) + both(Card(ag.tensor(2.0)))


@pytest.mark.parametrize("make, place, sum_", [
    (lambda: ag.tensor([0.0, 5.0, -7.0], requires_grad=True) ** 2, [2], "1 · -14"),
    (lambda: ag.tensor([[0.0, 1.0], [3.0, 2.0]], requires_grad=True) ** 2, [1, 0], "1 · 6")])
def test_the_sum_written_out_is_the_largest(make, place, sum_):
    card = Card(make())
    text = both(card)
    assert f"the largest, at {place}:" in text and sum_ in text and "the first is" not in text
    assert f"its largest, at {place}:" in card.rows[1].residual.text


def test_of_many_terms_the_largest_are_written():
    w = np.zeros((8, 1))
    w[6:] = [[3.0], [-4.0]]
    x = parameter(1)
    text = both(Card(ag.tensor(w) @ x))
    assert "1 · 3 + 1 · -4 + … = -1" in text
