"""Sums of products over axes: tensordot and einsum, in terms of matrix products."""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import combinations

import numpy as np

from engine.core import (
    CONTRACTION,
    INT64,
    SUBSCRIPTS,
    ArityError,
    Attribute,
    BadAttributeError,
    Operand,
    Shape,
    ShapeMismatchError,
    canonical_dtype,
    dtype_of,
    ex,
    shape_of,
)
from engine.core.values import BOOL
from engine.primitives.arithmetic import astype
from engine.primitives.compare import not_equal
from engine.primitives.linalg import diagonal, matmul
from engine.primitives.reduce import sum
from engine.primitives.shape import reshape, transpose
from engine.rows import composite, normalize_axis

#: Number of factors searched for the next pair; searching more would cost more than it saves.
_WINDOW = 8


@dataclass(slots=True)
class _Factor:
    """Factor of a contraction: a value, with a distinct name for each of its axes; their lengths by name."""

    x: Operand
    names: tuple[str, ...]
    lengths: dict[str, int] = field(init=False)

    def __post_init__(self) -> None:
        self.lengths = dict(zip(self.names, shape_of(self.x), strict=True))


def _ordered(factor: _Factor, names: Sequence[str]) -> Operand:
    """Transpose a factor to this order of axes."""
    order = tuple(factor.names.index(name) for name in names)
    return factor.x if order == tuple(range(len(order))) else transpose(factor.x, order)


def _shaped(x: Operand, shape: Sequence[int]) -> Operand:
    return x if shape_of(x) == tuple(shape) else reshape(x, tuple(shape))


def _product(a: _Factor, b: _Factor, kept: Iterable[str]) -> _Factor:
    """Multiply two factors and sum over their shared axes that are not in `kept`, as one matrix product."""
    lengths = a.lengths | b.lengths
    shared = [name for name in a.names if name in b.names]
    batch = [name for name in shared if name in kept]
    summed = [name for name in shared if name not in batch]
    left = [name for name in a.names if name not in shared]
    right = [name for name in b.names if name not in shared]
    lead, rows, inner, columns = (math.prod(lengths[n] for n in names) for names in (batch, left, summed, right))
    stack = (lead,) if batch else ()
    x = _shaped(_ordered(a, batch + left + summed), (*stack, rows, inner))
    y = _shaped(_ordered(b, batch + summed + right), (*stack, inner, columns))
    names = (*batch, *left, *right)
    product = matmul(x, y) if summed else x * y
    return _Factor(_shaped(product, [lengths[name] for name in names]), names)


def _tensordot(x1: Operand, x2: Operand, axes: int | tuple[tuple[int, ...], tuple[int, ...]]) -> Operand:
    shape1, shape2 = shape_of(x1), shape_of(x2)
    if isinstance(axes, int):
        if axes > min(len(shape1), len(shape2)):
            raise BadAttributeError(f"tensordot: axes is {axes} for operands of {len(shape1)} and {len(shape2)} axes")
        axes = (tuple(range(len(shape1) - axes, len(shape1))), tuple(range(axes)))
    over1, over2 = (
        [normalize_axis("tensordot", axis, len(shape)) for axis in listed]
        for listed, shape in zip(axes, (shape1, shape2), strict=True)
    )
    for over, listed in zip((over1, over2), axes, strict=True):
        if len(set(over)) != len(over):
            raise BadAttributeError(f"tensordot: axes {list(listed)} name an axis twice")
    names1 = [f"a{i}" for i in range(len(shape1))]
    names2 = [f"b{i}" for i in range(len(shape2))]
    for i, j in zip(over1, over2, strict=True):
        if shape1[i] != shape2[j]:
            raise ShapeMismatchError(
                f"tensordot: axis {i} of shape {shape1} and axis {j} of shape {shape2} differ: "
                f"{shape1[i]} != {shape2[j]}"
            )
        names2[j] = names1[i]
    return _product(_Factor(x1, tuple(names1)), _Factor(x2, tuple(names2)), ()).x


tensordot = composite(
    "tensordot",
    ("x1", "x2"),
    _tensordot,
    attributes=(Attribute("axes", CONTRACTION, 2),),
    examples=(
        ex((2, 3), (2, 3)),
        ex((2, 3, 2), (3, 2, 2)),
        ex((2, 3), (3, 2), axes=1),
        ex((2,), (3,), axes=0),
        ex((), (), axes=0),
        ex((2, 3, 1), (3, 2), axes=[[0, -2], [1, 0]]),
        ex((2, 3), (3,), axes=[1, 0]),
        ex((2, 0), (0, 3), axes=1),
    ),
    doc="Sum of products over the last `axes` axes of x1 and the first of x2, or over two lists of axes.",
)


def _under_ellipsis(n: int) -> list[str]:
    """Return names for the n axes under an ellipsis, numbered from the last one, as broadcasting aligns them."""
    return [f"...{i}" for i in reversed(range(n))]


def _names(axes: str, shape: Shape, place: int) -> tuple[str, ...]:
    """Return a name for each axis of an operand."""
    before, dots, after = axes.partition("...")
    rest = len(shape) - len(before) - len(after)
    if rest < 0 or (rest and not dots):
        raise ShapeMismatchError(
            f'einsum: "{axes}" has {len(before) + len(after)} indices; operand {place} of shape {shape} '
            f"has {len(shape)} axes"
        )
    return (*before, *_under_ellipsis(rest), *after)


def _indices(subscripts: str, shapes: Sequence[Shape]) -> tuple[list[tuple[str, ...]], list[str]]:
    """Return the names of the axes of each operand, and of the output."""
    given, _, wanted = subscripts.partition("->")
    axes = given.split(",")
    if len(axes) != len(shapes):
        raise ArityError(f"einsum: subscripts for {len(axes)} operands, got {len(shapes)}")
    named = [_names(a, shape, i) for i, (a, shape) in enumerate(zip(axes, shapes, strict=True))]
    most = max(len([name for name in names if not name.isalpha()]) for names in named)
    if most and "..." not in wanted:
        raise BadAttributeError(f'einsum: output "{wanted}" has no "..." for the {most} axes under the ellipsis')
    before, dots, after = wanted.partition("...")
    return named, [*before, *(_under_ellipsis(most) if dots else ()), *after]


def _lengths(named: Sequence[tuple[str, ...]], shapes: Sequence[Shape]) -> dict[str, int]:
    """Return the length of each index; a length of 1 broadcasts to that of another operand."""
    found: dict[str, int] = {}
    for names, shape in zip(named, shapes, strict=True):
        own: dict[str, int] = {}
        for name, n in zip(names, shape, strict=True):
            if own.setdefault(name, n) != n:
                raise _mismatch(name, own[name], n, [shape])
        for name, n in own.items():
            before = found.setdefault(name, n)
            if before == 1:
                found[name] = n
            elif n not in (1, before):
                raise _mismatch(name, before, n, shapes)
    return found


def _mismatch(name: str, n: int, other: int, shapes: Sequence[Shape]) -> ShapeMismatchError:
    index = f'index "{name}"' if name.isalpha() else "an axis under the ellipsis"
    listed = " and ".join(str(shape) for shape in shapes)
    return ShapeMismatchError(f"einsum: {index} has lengths {n} and {other}; shapes {listed}")


def _factor(x: Operand, names: tuple[str, ...], lengths: dict[str, int]) -> _Factor:
    """Return an operand as a factor: take the diagonal of axes of the same name, drop axes that would broadcast."""
    names_left = list(names)
    for name in dict.fromkeys(names):
        while names_left.count(name) > 1:
            first = names_left.index(name)
            second = names_left.index(name, first + 1)
            x = diagonal(x, axis1=first, axis2=second)
            names_left = [n for i, n in enumerate(names_left) if i not in (first, second)] + [name]
    kept = [(name, n) for name, n in zip(names_left, shape_of(x), strict=True) if n == lengths[name]]
    return _Factor(_shaped(x, [n for _, n in kept]), tuple(name for name, _ in kept))


def _summed(factor: _Factor, kept: Iterable[str]) -> _Factor:
    over = tuple(i for i, name in enumerate(factor.names) if name not in kept)
    if not over:
        return factor
    return _Factor(sum(factor.x, axes=over), tuple(name for name in factor.names if name in kept))


def _price(a: _Factor, b: _Factor, uses: Counter[str]) -> tuple[int, int]:
    """Return the cost of multiplying two factors: the growth in elements held, and the number of multiplications."""
    lengths = a.lengths | b.lengths
    kept = [n for name, n in lengths.items() if uses[name] > (name in a.names) + (name in b.names)]
    growth = math.prod(kept) - math.prod(a.lengths.values()) - math.prod(b.lengths.values())
    return growth, math.prod(lengths.values())


def _contracted(factors: list[_Factor], output: Sequence[str]) -> _Factor:
    """Multiply all factors, the cheapest pair first, and sum over the indices that are not in the output."""
    uses = Counter(output)
    uses.update(name for factor in factors for name in factor.names)
    factors = [_summed(factor, [name for name in factor.names if uses[name] > 1]) for factor in factors]
    while len(factors) > 1:
        pairs = combinations(range(min(len(factors), _WINDOW)), 2)
        i, j = min(pairs, key=lambda pair: _price(factors[pair[0]], factors[pair[1]], uses))
        b, a = factors.pop(j), factors.pop(i)
        uses.subtract((*a.names, *b.names))
        factors.insert(0, _product(a, b, [name for name in a.names if uses[name]]))
        uses.update(factors[0].names)
    return factors[0]


def _einsum(*xs: Operand, subscripts: str) -> Operand:
    shapes = [shape_of(x) for x in xs]
    named, output = _indices(subscripts, shapes)
    lengths = _lengths(named, shapes)
    dtype = canonical_dtype(np.result_type(*map(dtype_of, xs)))
    # For masks, NumPy returns whether any product is not 0.
    inner = INT64 if dtype == BOOL else dtype
    xs = tuple(x if dtype_of(x) == inner else astype(x, str(inner)) for x in xs)
    factors = [_factor(x, names, lengths) for x, names in zip(xs, named, strict=True)]
    y = _ordered(_contracted(factors, output), output)
    if dtype == BOOL:
        return not_equal(y, 0)
    return reshape(y, shape_of(y)) if y is xs[0] else y


einsum = composite(
    "einsum",
    ("x",),
    _einsum,
    variadic=True,
    attributes=(Attribute("subscripts", SUBSCRIPTS, leads=True),),
    examples=(
        ex((2, 3), (3, 2), subscripts="ij,jk->ik"),
        ex((2, 3), subscripts="ij->ij"),
        ex((2, 3), subscripts="ba"),
        ex((3, 3), subscripts="ii"),
        ex((2, 2, 2), subscripts="iji->ij"),
        ex((2, 2, 2), subscripts="iii->i"),
        ex((2, 1, 2, 3), (4, 3, 2), subscripts="...ij,...jk->...ik"),
        ex((3, 2), (2,), (3,), subscripts="ij,j,i->"),
        ex((2,), (3,), subscripts="i,j->ji"),
        ex((), (2,), subscripts=",i->i"),
        ex((1, 3), (2, 3), subscripts="ij,ij->ij"),
        ex((2, 0), (0, 3), subscripts="ij,jk"),
        ex((), subscripts="->"),
    ),
    doc='Sums of products over named axes, as in NumPy: `einsum("ij,jk->ik", a, b)`.',
)
