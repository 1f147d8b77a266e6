"""Formulas read from docstrings, and set as HTML."""

import pytest

import autograd as ag
from autograd.view.card.mathematics import find_description, find_formula, find_gradients, typeset

WITH_RULES = [op for op in ag.REGISTRY.values() if op.differentiable]


@pytest.mark.parametrize("op", WITH_RULES, ids=lambda op: op.name)
def test_every_op_with_rules_has_its_formulas(op):
    formula = find_formula(op)
    assert formula[:4] in ("y = ", "z = ", "L = ") or formula[0] in "yz" and " = " in formula
    found = find_gradients(op)
    assert set(found) == {op.parameters[i] for i in op.rules}
    for name, text in found.items():
        assert text.startswith(f"∂L/∂{name}") or op.star is not None and text.startswith("∂L/∂xᵢ"), (name, text)
        assert text.count("∂L/∂") == 1 and not text.endswith((",", ".", ";", "=")), text


def test_what_stands_around_a_formula_is_no_part_of_it():
    assert find_formula(ag.softmax) == "y = exp(x) / Σ exp(x)"
    assert find_gradients(ag.softmax) == {"x": "∂L/∂x = y ⊙ (g − Σ g⊙y)"}  # and not the remark behind it
    assert find_description(ag.softmax) == "Probabilities along `axis`. A row of only −∞ gives 0; elements at ∞ share 1"
    assert find_description(ag.max) == "Largest element along `axis`. Equal ones share the gradient evenly"
    assert find_description(ag.argmax).startswith("Returns the indices of the maximum")
    assert find_formula(ag.argmax) == ""
    assert find_description(ag.sign).startswith("Returns an element-wise indication")


def test_a_rule_of_several_inputs_has_a_formula_for_each():
    found = find_gradients(ag.attention)
    assert found["v"] == "∂L/∂v = pᵀ g"
    assert found["k"] == "∂L/∂k = sᵀ q · scale, s = p ⊙ (g vᵀ − Σ g⊙y)"  # with what they share, where it is used
    assert find_gradients(ag.layer_norm)["weight"] == "∂L/∂weight = Σ g ⊙ x̂"


def op_with(doc, rule_doc, names=("x",)):
    def f(x, w):
        return x * w
    f.__doc__ = doc
    made = ag.Op(f)

    def rule(g, y, x, w):
        return (g * w, g * x) if len(names) > 1 else g * w
    rule.__doc__ = rule_doc
    made.gradient(*names)(rule)
    return made


@pytest.mark.parametrize("doc, expected", [
    (None, ""),
    ("Without one.", ""),
    ("y = x * w", "y = x * w"),
    ("y = x * w.", "y = x * w"),
    ("Product.  y = x * w  And more.", "y = x * w  And more"),
    ("Product.  y = x * w.  And more.", "y = x * w"),
    ("Product.\n\n    score = x +\n        w\n    More.", "score = x + w"),
    ("Sets w.  With x = 3 it is fast.", ""),
    ("Made of  n = 3 parts", ""),
    ("y[i, j] = xᵢ wⱼ    a remark", "y[i, j] = xᵢ wⱼ"),
])
def test_formulas_of_other_peoples_docstrings(doc, expected):
    assert find_formula(op_with(doc, None)) == expected


@pytest.mark.parametrize("doc, names, expected", [
    (None, ("x",), {"x": ""}),
    ("g times w", ("x",), {"x": "g times w"}),
    ("∂L/∂u = g ⊙ w", ("x",), {"x": "∂L/∂u = g ⊙ w"}),
    ("∂L/∂x = g ⊙ w,  ∂L/∂w = g ⊙ x", ("x", "w"), {"x": "∂L/∂x = g ⊙ w", "w": "∂L/∂w = g ⊙ x"}),
    ("∂L/∂x = g ⊙ w", ("x", "w"), {"x": "∂L/∂x = g ⊙ w", "w": ""}),  # never the one of another input
])
def test_gradients_of_other_peoples_docstrings(doc, names, expected):
    assert find_gradients(op_with("", doc, names)) == expected


@pytest.mark.parametrize("text, html", [
    ("y = exp(x)", "<i>y</i> = exp(<i>x</i>)"),
    ("x² eˣ⁺ʸ", "<i>x</i><sup>2</sup> <i>e</i><sup><i>x</i>+<i>y</i></sup>"),
    ("zᵢⱼ = Σₖ xᵢₖ", "<i>z</i><sub><i>i</i><i>j</i></sub> = Σ<sub><i>k</i></sub> "
                    "<i>x</i><sub><i>i</i><i>k</i></sub>"),
    ("Πⱼ≤ᵢ xⱼ", "Π<sub><i>j</i>≤<i>i</i></sub> <i>x</i><sub><i>j</i></sub>"),
    ("Πⱼ<ᵢ", "Π<sub><i>j</i>&lt;<i>i</i></sub>"),
    ("y⁻ᵀ", "<i>y</i><sup>−T</sup>"),
    ("∫₀ˣ", "∫<sub>0</sub><sup><i>x</i></sup>"),
    ("x̂ − βx", "<i>x̂</i> − <i>β</i><i>x</i>"),
    ("label_smoothing", "label_smoothing"),
    ("<script>alert(1)</script> & \"", "&lt;script&gt;alert(1)&lt;/script&gt; &amp; &quot;"),
    ("", ""),
])
def test_typesetting(text, html):
    assert typeset(text) == html
