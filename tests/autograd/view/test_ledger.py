"""The ledger: contributions, their shares and their sum."""

import numpy as np
import pytest

import autograd as ag
import gpt

rng = np.random.default_rng(0)


def added(ledger):
    return sum(c.gradient for c in ledger)


def test_contributions_sum_to_the_gradient():
    model = gpt.GPT(gpt.GPTConfig(vocab_size=11, block_size=8, n_layer=2, n_head=2, n_embd=8))
    ids = rng.integers(0, 11, (2, 8))
    loss = model.loss(ids, ids)
    loss.backward()
    for t in model.named_arrays().values():
        ledger = ag.tape(loss).ledger(t)
        assert np.array_equal(ledger.total, t.grad)
        np.testing.assert_allclose(added(ledger), t.grad, atol=1e-6)
        assert sum(c.share for c in ledger) == pytest.approx(1)
    assert [c.record.op.name for c in ag.tape(loss).ledger(model.wte.weight)] == ["transpose", "embedding"]


def test_shares_of_a_residual_stream():
    x = ag.tensor([3.0, 4.0], requires_grad=True)
    h = x * 1.0
    loss = (h + 3.0 * h - 0.5 * h).sum()
    ledger = ag.tape(loss).ledger(h)
    assert sorted(round(c.share, 6) for c in ledger) == [round(s / 3.5, 6) for s in (-0.5, 1, 3)]
    assert [c.norm for c in ledger] == pytest.approx([0.5 * 2**0.5, 2**0.5, 3 * 2**0.5])
    assert "-14.3%" in repr(ledger) and "norm 4.95, of 3 contributions" in repr(ledger)


def test_of_a_root_and_of_a_tuple():
    x = ag.tensor(np.arange(6.0), requires_grad=True)
    y = x * 2
    ledger = ag.tape(y).ledger(y)
    assert [c.record for c in ledger] == [None] and ledger.total.tolist() == [1] * 6
    assert "the seed of the backward pass" in repr(ledger)
    a, b, c = ag.split(x, 3)
    loss = (a * c).sum() + (a * a).sum()
    parts = ag.tape(loss).ledger(a.inputs[0])
    assert sum(c.share for c in parts) == pytest.approx(1) and len(parts) == 2
    assert [p.tolist() for p in parts.total] == [[4.0, 7.0], [0, 0], [0, 1]]


def test_a_gradient_of_zero_has_no_shares():
    x = ag.tensor([1.0], requires_grad=True)
    assert [c.share for c in ag.tape((x * 0.0).sum()).ledger(x)] == [0.0]


def test_refusals():
    x, stranger, constant = ag.tensor([1.0], requires_grad=True), ag.tensor([1.0]), ag.tensor([2.0], name="c")
    loss = (x * constant).sum()
    with pytest.raises(ValueError, match="not in this tape"):
        ag.tape(loss).ledger(stranger)
    with pytest.raises(ValueError, match="no gradient flows to leaf 'c'"):
        ag.tape(loss).ledger(constant)
