"""Comparison of two tapes: equality within tolerances, and the first difference."""

import numpy as np
import pytest

import autograd as ag
import gpt
from autograd.view.diff import align as aligning
from autograd.view.diff.align import align
from autograd.view.diff.diff import diff
from tests.duck import Duck

IDS = np.random.default_rng(0).integers(0, 65, (2, 16))


def gpt_tape(dtype=np.float32, edit=None, **config):
    """Return the tape of a small GPT's loss, with the same numbers every time."""
    model = gpt.GPT(gpt.GPTConfig(vocab_size=65, n_embd=32, n_layer=2, **config), dtype=dtype)
    if edit is not None:
        edit(model)
    return ag.tape(model.loss(IDS, IDS))


def parameter(*numbers, name="x"):
    return ag.tensor(np.array(numbers, float), requires_grad=True, name=name)


def program(f, *numbers):
    return ag.tape(f(parameter(*(numbers or (0.5, 1.0, 2.0)))))


def named(tape, op):
    return next(t for t in tape if t.op is not None and t.op.name == op)


def composed_layer_norm(x, weight, bias, eps=1e-5):
    centred = x - x.mean(axis=-1, keepdims=True)
    return centred / np.sqrt((centred * centred).mean(axis=-1, keepdims=True) + eps) * weight


# ---------------------------------------------------------------------- the same


def test_the_same_program_twice_is_the_same_in_every_record():
    found = diff(gpt_tape(), gpt_tape())
    assert found.same and found.value is None and found.gradient is None
    assert found.values_compared == found.gradients_compared == len(found.tape_a)
    assert not found.only_a and not found.only_b
    assert "the same, in all values and gradients" in repr(found) and "the same" in found._repr_html_()


def test_it_leaves_tapes_and_gradients_as_they_are():
    x = parameter(1.0, 2.0)
    loss = np.sum(np.exp(x) * x)
    loss.backward()
    tape, gradient = ag.tape(loss), x.grad.copy()
    freed = [t._array is None for t in tape]
    assert diff(tape, tape).same
    assert [t._array is None for t in tape] == freed and any(freed)
    assert (x.grad == gradient).all()


def test_nan_is_equal_to_nan_and_infinity_to_itself():
    make = lambda x: np.sum(np.where(np.array([True, True, False]), np.log(x), x))  # noqa: E731
    with np.errstate(all="ignore"):
        assert diff(program(make, -1.0, 0.0, 1.0), program(make, -1.0, 0.0, 1.0)).same
        found = diff(program(make, -1.0, 0.0, 1.0), program(make, -1.0, 5.0, 1.0))
    assert not found.same and found.value.place == (1,)


def test_a_nan_against_a_number_is_the_worst_of_differences():
    found = diff(*(ag.tape(ag.tensor(numbers)) for numbers in ([np.nan, 2.0], [1.0, 1e9])))
    assert found.value.place == (0,) and found.value.n_differ == 2 and "nan against 1.0" in str(found.value)


def test_empty_arrays_are_the_same():
    make = lambda: ag.tape(np.sum(np.exp(ag.tensor(np.zeros((0, 3)), requires_grad=True))))  # noqa: E731
    assert diff(make(), make()).same


def test_single_precision_is_the_same_as_double_up_to_rounding():
    single, double = gpt_tape(np.float32), gpt_tape(np.float64)
    found = diff(single, double)
    assert found.same and f"within {found.within:.2g} of the largest number" in repr(found)
    assert found.within == pytest.approx(100 * np.finfo(np.float32).eps)

    def scale(model):
        model.h[1].ln_2.weight.data = np.full(32, 1 + 1e-4)
    assert not diff(single, gpt_tape(np.float64, scale)).same


def test_rtol_lets_small_differences_pass_and_says_so():
    a, b = program(lambda x: x.sum(), 1.0, 2.0), program(lambda x: x.sum(), 1.0, 2.0 + 2e-9)
    found = diff(a, b)
    assert found.value.place == (1,) and found.value.relative == pytest.approx(1e-9)
    assert found.value.ulps == pytest.approx(2e-9 / np.spacing(2.0), rel=1e-6)
    assert diff(a, b, rtol=2e-9).same and "within 2e-09" in repr(diff(a, b, rtol=2e-9))
    assert not diff(a, b, rtol=5e-10).same


# ---------------------------------------------------------------------- edits


def test_one_weight_changed_shows_at_that_weight():
    def edit(model):
        weight = model.h[1].mlp.c_fc.weight
        numbers = weight.data.copy()
        numbers[3, 5] += 1e-6
        weight.data = numbers
    found = diff(gpt_tape(), gpt_tape(edit=edit))
    assert found.value.a.name == found.value.b.name == "h.1.mlp.c_fc.weight"
    assert (found.value.place, found.value.n_differ) == ((3, 5), 1)
    assert "different numbers" in found.value.cause
    assert found.gradient is not None and "values differ" in found.gradient.cause


def test_another_operation_shows_where_it_stands():
    found = diff(gpt_tape(activation="gelu"), gpt_tape(activation="relu"))
    assert (found.value.a.op.name, found.value.b.op.name) == ("gelu", "relu")
    assert found.value.a.scope == "h.0.mlp" and found.value.cause == "gelu against relu"
    assert not found.only_a and not found.only_b
    assert "First value that differs: gelu against relu" in repr(found)


def test_another_setting_is_named():
    found = diff(program(lambda x: ag.gelu(x).sum()), program(lambda x: ag.gelu(x, approximate="tanh").sum()))
    assert found.value.a.op.name == "gelu"
    assert found.value.cause == "the attribute approximate: not given against 'tanh'"


def test_another_array_given_to_an_operation_is_named():
    found = diff(*(program(lambda x, mask=mask: (x * mask).sum()) for mask in (np.ones(3), np.array([1.0, 1.0, 0.0]))))
    assert found.value.cause == "its input y: f64[3] against f64[3], with other numbers"


def test_another_input_is_named():
    def make(swapped):
        x, z = parameter(1.0, name="x"), parameter(2.0, name="z")
        y, w = np.exp(x), np.exp(z)
        return ag.tape(np.subtract(w if swapped else y, y).sum() + w.sum())
    found = diff(make(False), make(True))
    assert found.value.a.op.name == "subtract" and found.value.cause == "its input x: %2 of a against %3 of b"


def test_another_rule_shows_in_the_gradient_alone():
    def make(factor):
        def doubled(x):
            """y = 2 x"""
            return 2 * x
        op = ag.Op(doubled)

        @op.gradient("x")
        def _(g, y, x):
            """∂L/∂x = 2 g"""
            return factor * g
        return program(lambda x: np.exp(op(np.sin(x))).sum())
    found = diff(make(2), make(3))  # an op defined again, as in a notebook's cell that was edited
    assert found.value is None and not found.same
    assert found.gradient.a.op.name == "sin" and "doubled" in found.gradient.cause
    assert found.gradients_differ == 2 and found.values_differ == 0


def test_a_way_that_is_cut_shows_as_a_missing_gradient():
    found = diff(program(lambda x: np.exp(x).sum() + np.sin(x).sum()),
                 program(lambda x: np.exp(x).sum() + np.sin(x.detach()).sum()))
    assert found.value is None and found.gradient.a.op.name == "sum" and found.gradient.b.op is None
    assert found.gradient.cause == "only a has one" and "in the backward pass: only a has one" in repr(found)


def test_a_value_that_is_random_is_told_as_such():
    rng = np.random.default_rng(0)

    @ag.Op
    def noisy(x):
        """y = x + noise"""
        return x + rng.normal(size=x.shape)

    noisy.gradient("x")(lambda g, y, x: g)
    found = diff(*(program(lambda x: noisy(x).sum()) for _ in range(2)))
    assert found.value.a.op.name == "noisy" and "random?" in found.value.cause


def test_tuples_of_arrays_are_compared_part_by_part():
    def make(h):
        first, second = ag.split(parameter(1.0, 2.0, 3.0, 4.0 + h) * 1.0, 2)
        return ag.tape((np.exp(first) * second).sum())
    assert diff(make(0), make(0)).same
    found = diff(make(0), make(1))
    split = named(found.tape_a, "split")
    assert found.partners[split].op.name == "split" and found.value.a.op is None


def test_the_worst_part_of_a_tuple_is_named():
    def make(h):
        @ag.Op
        def pair(x):
            """y = (x, 2 x + h)"""
            return x, 2 * x + h

        @pair.gradient("x")
        def _(g, y, x):
            return g[0] + 2 * g[1]
        first, second = pair(parameter(1.0, 2.0))
        return ag.tape((first * second).sum())
    found = diff(make(0), make(np.array([0.0, 1.0])))
    assert found.value.a.op.name == "pair" and found.value.place == (1, 1)
    assert (found.value.n_differ, found.value.n, found.value.numbers) == (1, 4, (4.0, 5.0))


# ---------------------------------------------------------------------- tapes that do not match record by record


def test_a_fused_operation_finds_the_result_of_several():
    x, weight = np.random.default_rng(0).normal(size=(4, 8)), np.linspace(1, 2, 8)

    def make(norm):
        h, w = ag.tensor(x, requires_grad=True), ag.tensor(weight, requires_grad=True, name="w")
        return ag.tape((np.tanh(norm(np.sin(h), w, None)) ** 2).mean())
    fused, composed = make(ag.layer_norm), make(composed_layer_norm)
    found = diff(fused, composed, rtol=1e-12)
    norm = named(fused, "layer_norm")
    assert found.partners[norm].op.name == "multiply" and not found.only_a
    assert {t.op.name for t in found.only_b} >= {"mean", "subtract", "sqrt", "divide"}
    assert not found.same and found.value is None and found.gradient is None
    n = len(fused)
    assert (f"as far as compared: values of {n} and gradients of {n} of the {n} records of a, and of the "
            f"{len(composed)} of b") in repr(found)
    assert f"no partner: {len(found.only_b)} records of b" in repr(found)


def test_a_wrong_formula_beside_a_fused_operation_shows_there():
    def wrong(x, weight, bias):
        return composed_layer_norm(x, weight, bias, eps=1e-3)

    def make(norm):
        h, w = ag.tensor(np.arange(12.0).reshape(3, 4), requires_grad=True), parameter(1, 2, 3, 4, name="w")
        return ag.tape((np.tanh(norm(np.sin(h), w, None)) ** 2).mean())
    found = diff(make(ag.layer_norm), make(wrong), rtol=1e-9)
    assert found.value.a.op.name == "layer_norm" and found.value.b.op.name == "multiply"


def test_a_cache_gives_the_same_up_to_rounding():
    q, k, v = np.random.default_rng(0).normal(size=(3, 1, 2, 6, 4))

    def attended(keys, values):
        query = ag.tensor(q[..., -1:, :], requires_grad=True)
        return ag.tape((ag.attention(query, keys, values, causal=True) ** 2).sum())
    whole = attended(k, v)
    cached = attended(np.concatenate([k[..., :5, :], k[..., 5:, :]], axis=-2), v)
    assert diff(whole, cached).same
    late = attended(np.concatenate([k[..., :5, :], k[..., 4:5, :]], axis=-2), v)
    assert diff(whole, late).value.cause.startswith("its input k: ")


def test_a_record_in_between_is_reported_and_the_rest_compared():
    found = diff(program(lambda x: np.exp(np.sin(x)).sum()), program(lambda x: np.exp(np.sin(x) * 1.0).sum()))
    assert [t.op.name for t in found.only_b] == ["multiply"] and not found.only_a
    assert not found.same and found.value is None
    assert "no partner: 1 record of b\n  %2 f64[3] = multiply(%1, 1.0)" in repr(found)


def test_scopes_may_have_other_names():
    def make(name, steps):
        with ag.scope(name):
            y = np.sin(parameter(1.0, 2.0))
        for _ in range(steps):
            y = np.exp(-y)
        return ag.tape((y * 2.0).sum())
    found = diff(make("old", 1), make("new", 1))
    assert found.same
    found = diff(make("old", 1), make("new", 2))
    assert found.partners[named(found.tape_a, "sin")] is named(found.tape_b, "sin")


def test_tapes_with_nothing_in_common_are_not_the_same():
    found = diff(program(lambda x: np.exp(x).sum()), ag.tape(ag.tensor(np.ones((2, 2)), name="other")))
    assert not found.partners and not found.same
    assert "values of 0 and gradients of 0 of the 3 records of a, and of the 1 of b" in repr(found)


def test_partners_keep_the_order_of_the_tape_and_are_used_once():
    a, b = gpt_tape(), gpt_tape(np.float64, activation="relu")
    partners = align(a, b)
    assert list(partners) == [t for t in a if t in partners]
    assert len(set(partners.values())) == len(partners)


def test_two_edits_far_apart_in_a_long_chain():
    def make(*edits):
        def chain(x):
            for i in range(2000):
                x = np.tanh(x) if i in edits else x * 1.0001
            return x.sum()
        return program(chain)
    found = diff(make(), make(100, 1900))
    assert len(found.partners) == len(found.tape_a)
    assert found.value.a is found.tape_a[101] and found.value.cause == "multiply against tanh"


# ---------------------------------------------------------------------- numbers that are gone


def test_freed_values_are_computed_again():
    a = gpt_tape()
    a.roots[0].backward()
    assert diff(a, gpt_tape()).same


def test_after_a_step_only_what_is_left_is_compared():
    model = gpt.GPT(gpt.GPTConfig(vocab_size=65, n_embd=32, n_layer=2))
    a = ag.tape(model.loss(IDS, IDS))
    a.roots[0].backward()
    changed = model.h[1].mlp.c_fc.weight
    changed.data = changed.data * 0.9
    found = diff(a, gpt_tape())
    assert not found.same and found.value is None and found.gradient is None
    leaves = sum(t.op is None for t in a)
    assert leaves < found.values_compared < len(a)  # all that was made before that weight came into it, and the loss
    assert f"as far as compared: values of {found.values_compared}" in repr(found)
    assert "Not compared: 1 value: a leaf was changed after the tape was made from it" in repr(found)
    assert "'h.1.mlp.c_fc.weight'" in repr(found)


def test_other_libraries_arrays_are_not_compared():
    def make():
        return ag.tape(np.exp(ag.tensor(Duck(np.ones(3)), requires_grad=True)).sum())
    found = diff(make(), make())
    assert not found.same and found.values_compared == 0 and "not NumPy arrays" in repr(found)


# ---------------------------------------------------------------------- shown


def test_hostile_names_are_text():
    bad = "<script>alert(1)</script>"
    found = diff(*(ag.tape(np.exp(ag.tensor([1.0 + h], requires_grad=True, name=bad)).sum()) for h in (0, 1)))
    page = found._repr_html_()
    assert "<script" not in page and "&lt;script&gt;" in page


def test_the_report_shows_both_lines_and_both_numbers():
    found = diff(program(lambda x: np.exp(x).sum(), 1.0, 2.0), program(lambda x: np.exp(x).sum(), 1.0, 3.0))
    text, page = repr(found), found._repr_html_()
    assert "  a  %0 'x' f64[2] = parameter" in text and "  b  %0 'x' f64[2] = parameter" in text
    assert "at [1]: 2.0 against 3.0, 1 apart (0.333 of the largest); 1 of 2 elements differ" in text
    assert "First value that differs: a leaf: they start from different numbers" in page
    assert "at [1]" in page and ">2.0<" in page and ">3.0<" in page


def longest(a, b):
    """Compute the length of the longest common subsequence, by dynamic programming."""
    best = np.zeros((len(a) + 1, len(b) + 1), int)
    for i, x in enumerate(a):
        for j, y in enumerate(b):
            best[i + 1, j + 1] = best[i, j] + 1 if x == y else max(best[i, j + 1], best[i + 1, j])
    return best[-1, -1]


@pytest.mark.parametrize("edits", [2, 128])
def test_runs_are_equal_in_order_and_as_many_as_can_be(edits, monkeypatch):
    monkeypatch.setattr(aligning, "EDITS", edits)
    rng = np.random.default_rng(edits)
    for _ in range(300):
        a, b = (rng.integers(0, rng.integers(1, 8), rng.integers(0, 14)).tolist() for _ in "ab")
        for runs in (list(aligning._myers_runs(a, b)), aligning._common_runs(a, b)):
            assert all(a[i:i + n] == b[j:j + n] for i, j, n in runs)
            assert all(i + n <= i2 and j + n <= j2 for (i, j, n), (i2, j2, _) in zip(runs, runs[1:]))
        if edits == 128:
            assert sum(n for _, _, n in aligning._myers_runs(a, b)) == longest(a, b)


def test_what_each_tape_has_once_finds_its_partner_after_a_long_insertion():
    shared = list(range(300))
    [*runs, end] = aligning._common_runs([*shared, "end"], [*["new"] * 400, *shared, *["more"] * 5, "end"])
    assert [(i, j) for i, j, n in runs if n] == [*((i, 400 + i) for i in shared), (300, 705)] and end == (301, 706, 0)
