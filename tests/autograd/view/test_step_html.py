"""Steps of the stepper, and the contributions to a gradient, as HTML."""

import re
from html.parser import HTMLParser

import numpy as np
import pytest

import autograd as ag
from autograd.view.step import Stop
from autograd.view.step_html import ledger_html, stop_html
from autograd.view.text import SHOWN, number_records

EVIL = "<script>alert(1)</script>"


class Cells(HTMLParser):
    """Return the texts of a page's outer table by rows; of a table within a cell its numbers."""

    def __init__(self, html):
        super().__init__()
        self.rows, self.depth = [], 0
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.depth += tag == "table"
        if self.depth == 1 and tag == "tr":
            self.rows.append([])
        elif self.depth == 1 and tag in ("td", "th"):
            self.rows[-1].append([])

    def handle_endtag(self, tag):
        self.depth -= tag == "table"

    def handle_data(self, data):
        if self.depth:
            self.rows[-1][-1].append(data)


def cells(html):
    return [[" ".join(cell) for cell in row] for row in Cells(html).rows]


@pytest.fixture
def loss():
    w = ag.tensor([1.0, 2.0], requires_grad=True, name="w")
    return (w * w + w).sum()


def test_a_step_forward(loss):
    walk = ag.tape(loss).stepper()
    html = stop_html(walk.until(op="add"))
    assert "<b>Forward step 1</b>" in html and "<code>%2 f64[2] = add(%1, %0)</code>" in html
    assert re.search(r"test_step_html.py:\d+", html)
    assert cells(html)[1:] == [["x", "%1", "1 4"], ["y", "%0 'w'", "1 2"], ["=", "%2", "2 6"]]


def test_a_step_back_with_what_was_sent_before(loss):
    walk = ag.tape(loss).stepper()
    walk.until(op="sum", where=np.any)
    html = stop_html(walk.step())
    assert "<b>Backward step 4</b>" in html
    assert cells(html)[1:] == [["incoming", "%2", "1 1", ""], ["sends to", "%1", "1 1", "first contribution"],
                               ["sends to", "%0 'w'", "1 1", "first contribution"]]
    rule = "g  ⊙  y  = [1 1] ⊙ [1 2]"
    assert cells(stop_html(walk.step()))[1:] == [["incoming", "%1", "1 1", ""],
                                                 ["sends to", "%0 'w'", f"1 2 {rule}", "2 3"],
                                                 ["sends to", "%0 'w'", f"1 2 {rule.replace('y', 'x')}", "3 5"]]
    assert walk.gradient(walk.tape[0]).tolist() == [3, 5]


def test_the_gradient_that_a_walk_starts_with_is_no_sum_of_what_was_sent(loss):
    w, product, *_ = tape = ag.tape(loss)
    sums = [(loss, None, np.array(1.0)), (w, np.array([1.0, 2.0]), np.array([8.0, 9.0]))]
    values = [a.data for a in product.inputs], product.data
    stop = Stop(4, "backward", product, *values, np.ones(2), [(w, np.array([7.0, 7.0]))], sums, number_records(tape))
    assert cells(stop_html(stop))[2] == ["sends to", "%0 'w'", "7 7 g  ⊙  y  = [1 1] ⊙ [1 2]", "8 9"]


def test_steps_of_all_kinds():
    x = ag.tensor(np.arange(12.0).reshape(3, 4), requires_grad=True, name=EVIL)
    with ag.scope(EVIL):
        first, _ = ag.split(x[..., np.array([0, 1, 2, 3])][None, 1:], 2, axis=-1)
        y = ag.layer_norm(np.where(first > 0, first, 0.0), np.ones(2), None) * np.zeros((1, 2, 2))
    stops = list(ag.tape(y.sum()).stepper())
    html = "".join(stop_html(stop) for stop in stops)
    assert len(stops) > 10 and "<script" not in html and "&lt;script&gt;" in html
    assert ">1:<" in html and "<td align=\"left\" style=\"text-align: left\">None</td>" in html
    assert "[0] " in html and "[1] " in html  # the arrays of the split, and their gradients
    large = ag.tape(np.exp(ag.tensor(np.ones((20, 30)), requires_grad=True)).sum()).stepper().step()
    assert stop_html(large).count("<img") == 2 and "1…1, mean 1±0" in stop_html(large)


def test_a_ledger(loss):
    w = ag.tape(loss)[0]
    html = ledger_html(ag.tape(loss).ledger(w))
    assert "<code>%0 leaf &#x27;w&#x27; f64[2]</code>: norm 5.831, of 3 contributions" in html
    found = cells(html)[1:4]
    square = "%1 multiply(%0, %0) test_step_html.py:47"
    assert [row[2:4] for row in found] == [["%2 add(%1, %0) test_step_html.py:47", "1 1"], [square, "1 2"],
                                           [square, "1 2"]]
    assert [row[:2] for row in found] == [["23.5%", "1.414"], ["38.2%", "2.236"], ["38.2%", "2.236"]]
    assert html.count("<details") == 1 and cells(html.split(">sum</summary>")[1]) == [["3", "5"]]
    assert [int(n) for n in re.findall(r'width="(\d+)" height="6"', html)] == [19, 31, 31]


def test_shares_against_the_sum_and_beyond_it():
    w = ag.tensor([1.0], requires_grad=True)
    tape = ag.tape((w * 5.0 - w * 4.0).sum())
    html = ledger_html(tape.ledger(w))
    assert [row[0] for row in cells(html)[1:3]] == ["-400.0%", "500.0%"]
    assert [int(n) for n in re.findall(r'width="(\d+)" height="6"', html)] == [80, 80]
    assert len(set(re.findall(r'src="([^"]+)"', html))) == 2  # a colour for each way


def test_a_ledger_of_many_shows_the_largest():
    w = ag.tensor([1.0], requires_grad=True)
    n = SHOWN + 5
    total = w * 0.0
    for i in range(n):
        total = total + w * float(i)
    found = cells(ledger_html(ag.tape(total.sum()).ledger(w)))[1:]
    assert found[SHOWN][2] == "… 6 smaller contributions …" and found[SHOWN][0] == f"{10 / (n * (n - 1) / 2):.1%}"
    assert [row[1] for row in found[:SHOWN]] == [str(i) for i in range(n - 1, 4, -1)]


def test_a_ledger_that_begins_with_the_walk_or_holds_nan():
    w = ag.tensor([1.0, 2.0], requires_grad=True)
    own = ledger_html(ag.tape(w).ledger(w))
    assert "the seed of the backward pass" in own and "100.0%" in own
    bad = ledger_html(ag.tape((w * np.nan).sum()).ledger(w))
    assert cells(bad)[1][:2] == ["nan", "nan"]


def test_parts_of_a_tuple_in_a_ledger():
    x = ag.tensor(np.arange(4.0), requires_grad=True)
    parts = ag.split(x, 2)
    tape = ag.tape((parts[0] * 2.0 + parts[1]).sum())
    split = next(t for t in tape if t.op is not None and t.op.name == "split")
    html = ledger_html(tape.ledger(split))
    assert cells(html)[1][-1] == "[1]  1 1" and cells(html)[2][-1] == "[0]  2 2"
