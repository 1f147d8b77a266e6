"""The faults that are put in: what could stand by mistake in place of each node of a syntax tree."""

import ast
from dataclasses import dataclass

OPERATORS = {
    ast.Add: (ast.Sub, ast.Mult), ast.Sub: (ast.Add,), ast.Mult: (ast.Div, ast.Add), ast.Div: (ast.Mult,),
    ast.MatMult: (ast.Mult,), ast.Pow: (ast.Mult,), ast.FloorDiv: (ast.Div, ast.Mult),
    ast.Mod: (ast.FloorDiv, ast.Mult), ast.BitAnd: (ast.BitOr,), ast.BitOr: (ast.BitAnd,), ast.BitXor: (ast.BitOr,)}
COMPARISONS = {
    ast.Lt: (ast.LtE, ast.GtE), ast.LtE: (ast.Lt, ast.Gt), ast.Gt: (ast.GtE, ast.LtE), ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,), ast.NotEq: (ast.Eq,), ast.Is: (ast.IsNot,), ast.IsNot: (ast.Is,), ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,)}
COMMUTATIVE = (ast.Add, ast.Mult, ast.BitAnd, ast.BitOr, ast.BitXor)
COMPOUND = (ast.FunctionDef, ast.If, ast.For, ast.While, ast.With, ast.Try, ast.ExceptHandler)
MODULES = ("np", "math", "functools", "itertools")


def alternatives(node, others):
    """Yield mistakes in place of `node`; `others` maps a parameter to those that it may be confused with."""
    match node:
        case ast.BinOp(left, op, right):
            yield from (ast.BinOp(left, other(), right) for other in OPERATORS.get(type(op), ()))
            yield left
            yield _without_left(op, right)
            if not isinstance(op, COMMUTATIVE) or any(isinstance(a, (ast.Tuple, ast.List)) for a in (left, right)):
                yield ast.BinOp(right, op, left)
        case ast.UnaryOp(ast.USub(), ast.Constant(value)):
            yield from _other_numbers(-value)
        case ast.UnaryOp(_, operand):
            yield operand
        case ast.Constant(bool()):
            yield ast.Constant(not node.value)
        case ast.Constant(int() | float()):
            yield from _other_numbers(node.value)
        case ast.Compare(left, ops, right):
            for i, op in enumerate(ops):
                yield from (ast.Compare(left, [*ops[:i], other(), *ops[i + 1:]], right)
                            for other in COMPARISONS[type(op)])
        case ast.BoolOp(op, values):
            yield ast.BoolOp(ast.Or() if isinstance(op, ast.And) else ast.And(), values)
            for i in range(len(values)):
                rest = values[:i] + values[i + 1:]
                yield ast.BoolOp(op, rest) if len(rest) > 1 else rest[0]
        case ast.IfExp(test, body, otherwise):
            yield from (ast.IfExp(test, otherwise, body), body, otherwise)
        case ast.Call():
            yield from _other_calls(node)
        case ast.Attribute(value, "mT" | "T"):
            yield value
        case ast.Subscript(value, _, ast.Load()):
            yield value
        case ast.Name(name, ast.Load()):
            yield from (ast.Name(other, ast.Load()) for other in others.get(name, ()))
        case ast.AugAssign(target, op, value):
            yield from (ast.AugAssign(target, other(), value) for other in OPERATORS[type(op)])
            yield ast.Pass()


def _without_left(op, right):
    """`left op right` without what is on the left."""
    if isinstance(op, ast.Sub):
        return ast.UnaryOp(ast.USub(), right)
    return ast.BinOp(ast.Constant(1), op, right) if isinstance(op, ast.Div) else right


def _other_numbers(c):
    for other in (c + 1, 2 * c, -c if c < 0 else c + 1):
        yield ast.Constant(other) if other >= 0 else ast.UnaryOp(ast.USub(), ast.Constant(-other))


def _other_calls(call):
    """A call with two arguments exchanged, one keyword or the last argument dropped, or only what it is applied to."""
    f, args, keywords = call.func, call.args, call.keywords
    method = isinstance(f, ast.Attribute) and not (isinstance(f.value, ast.Name) and f.value.id in MODULES)
    for i in range(len(args) - 1):
        yield ast.Call(f, [*args[:i], args[i + 1], args[i], *args[i + 2:]], keywords)
    for i in range(len(keywords)):
        yield ast.Call(f, args, keywords[:i] + keywords[i + 1:])
    if len(args) > 1 - method:
        yield ast.Call(f, args[:-1], keywords)
    if method or args and not isinstance(args[0], ast.Starred):
        yield f.value if method else args[0]


@dataclass
class Place:
    """The place of a node in its parent, where it can be replaced."""

    parent: ast.AST
    field: str
    index: int | None = None

    @property
    def node(self):
        value = getattr(self.parent, self.field)
        return value if self.index is None else value[self.index]

    @node.setter
    def node(self, node):
        if self.index is None:
            setattr(self.parent, self.field, node)
        else:
            getattr(self.parent, self.field)[self.index] = node

    def alternatives(self, others):
        yield from alternatives(self.node, others)
        if self.field in ("test", "ifs") and not isinstance(self.parent, ast.IfExp):
            yield from (ast.Constant(True), ast.Constant(False))
            if not isinstance(self.node, ast.Compare):
                yield ast.UnaryOp(ast.Not(), self.node)
        if isinstance(self.node, ast.Tuple) and isinstance(self.parent, (ast.Return, ast.Lambda)):
            for i in range(len(self.node.elts) - 1):
                a, b = self.node.elts[i:i + 2]
                yield ast.Tuple([*self.node.elts[:i], b, a, *self.node.elts[i + 2:]], ast.Load())


def places(parent, around=()):
    """(place, places around it in its line) of every node below `parent` that counts: neither texts, nor parameters,
    nor the refusal of bad input, which the formula has let pass before."""
    for field, value in ast.iter_fields(parent):
        if field in ("args", "decorator_list", "returns", "annotation") and not isinstance(parent, ast.Call):
            continue
        for index in range(len(value)) if isinstance(value, list) else [None]:
            place = Place(parent, field, index)
            if isinstance(place.node, ast.AST) and not _is_text_or_guard(place.node):
                inner = () if isinstance(place.node, COMPOUND) else (*around, place)
                yield place, inner
                if not isinstance(place.node, ast.UnaryOp) or not isinstance(place.node.operand, ast.Constant):
                    yield from places(place.node, inner)


def _is_text_or_guard(node):
    match node:
        case ast.JoinedStr() | ast.Raise() | ast.Expr(ast.Constant()) | ast.If(_, [ast.Raise()], []):
            return True
    return False


def faults(definition, within, others):
    """(source before, source after), one for each fault below the node `within`; while it is handed out, `definition`
    has it.

    The source is that of the smallest expression around the fault (but a number) that stands only once in the
    definition.
    """
    whole = ast.unparse(definition)
    for place, around in list(places(within)):
        original, before = place.node, [_text(p) for p in around]
        shown = max([i for i, p in enumerate(around) if whole.count(before[i]) <= 1
                     and not isinstance(p.node, (ast.Constant, ast.UnaryOp))], default=0)
        seen = set(before[shown:shown + 1])
        for other in list(place.alternatives(others)):
            place.node = other
            after = _text(around[shown])
            if after not in seen:
                seen.add(after)
                yield before[shown], after
            place.node = original


def _text(place):
    return ast.unparse(ast.fix_missing_locations(place.node)).strip().removeprefix("return ")
