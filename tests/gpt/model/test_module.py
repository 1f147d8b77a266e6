"""Modules: map, names, sharing, scopes."""

import copy
import pickle
from dataclasses import dataclass, field

import numpy as np

import autograd as ag
from gpt import GPT, GPTConfig, Linear, Module


@dataclass
class Leaf(Module):
    w: object
    size: int = 3
    dtype: type = np.float32  # has .shape and .dtype, and is no array

    def __call__(self, x):
        return x * self.w


@dataclass
class Tree(Module):
    first: Leaf
    many: list
    named: dict = field(default_factory=dict)
    pair: tuple = ()
    none: object = None
    config: GPTConfig | None = None

    def __call__(self, x):
        for child in (self.first, *self.many, *self.named.values(), *self.pair):
            x = child(x)
        return x + x


def tree():
    shared = ag.tensor([1.0, 2.0], requires_grad=True)
    leaf = Leaf(ag.tensor([3.0], requires_grad=True))
    return Tree(Leaf(shared), [leaf, leaf, [Leaf(shared)]][:2], {"a": Leaf(np.ones(2))}, (Leaf(shared),),
                config=GPTConfig(vocab_size=4))


def test_named_arrays_are_dotted_in_field_order_and_each_object_once():
    assert list(tree().named_arrays()) == ["first.w", "many.0.w", "named.a.w"]


def test_map_calls_fn_once_an_array_in_order_and_keeps_sharing():
    model, seen = tree(), []
    new = model.map(lambda a: seen.append(a) or np.asarray(a.data) * 2)
    assert [id(a) for a in seen] == [id(a) for a in model.named_arrays().values()]
    assert type(new) is Tree and type(new.pair) is tuple and new.config is model.config
    assert new.pair[0].w is new.first.w and new.many[0] is new.many[1]
    np.testing.assert_array_equal(new.first.w, [2, 4])
    np.testing.assert_array_equal(model.first.w.data, [1, 2])
    assert new.first.size == 3 and new.first.dtype is np.float32


def test_map_of_a_tied_gpt_stays_tied(config):
    model = GPT(config).map(lambda t: t.data + 1)
    ids = np.zeros((1, 2), int)
    before = model(ids)
    model.wte.weight[...] = 0
    assert before.any() and not model(ids).any()  # the head is the embedding: zero rows give zero logits


def test_scopes_are_the_names_of_fields_also_after_map_and_assignment():
    def scopes(model):
        return [t.scope for t in ag.tape(model(ag.tensor(np.ones(2), requires_grad=True))) if t.op]

    expected = ["first", "many.1", "many.1", "named.a", "pair.0", ""]
    assert scopes(tree()) == expected
    assert scopes(tree().map(lambda t: t)) == expected
    model = tree()
    model.first = Leaf(np.ones(2))
    assert scopes(model) == expected


def test_scopes_of_a_gpt_nest(model, ids):
    scopes = {t.scope for t in ag.tape(model(ids)) if t.op}
    assert {"wte", "h.0.ln_1", "h.0.attn", "h.0.attn.c_attn", "h.1.mlp.c_proj", "ln_f"} <= scopes


def test_super_call_opens_one_scope():
    class Doubled(Leaf):
        def __call__(self, x):
            return super().__call__(x) * 2

    @dataclass
    class Root(Module):
        part: Leaf

        def __call__(self, x):
            return self.part(x)

    root = Root(Doubled(ag.tensor(1.0, requires_grad=True)))
    assert [t.scope for t in ag.tape(root(np.ones(1))) if t.op] == ["part", "part"]


def test_modules_compare_by_identity_and_copy():
    a, b = tree(), tree()
    assert a == a and a != b and len({a, b}) == 2
    for other in (copy.deepcopy(a), pickle.loads(pickle.dumps(a))):
        assert other.first.w is other.pair[0].w is not a.first.w
        np.testing.assert_array_equal(other.first.w.data, [1, 2])


def test_linear_without_bias_has_one_array():
    assert list(Linear(np.ones((2, 3)), None).named_arrays()) == ["weight"]
