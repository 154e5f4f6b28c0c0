"""Sparsity: the pattern of a Jacobian, and a colouring of its columns, so that few directions determine the matrix.

Two columns without a common row can share a direction: the row of an entry then shows to which of them it belongs. A
banded matrix needs as many directions as it has diagonals.

Source: Curtis, Powell and Reid, On the estimation of sparse Jacobian matrices (1974); Gebremedhin, Manne and Pothen,
What color is your Jacobian? (2005).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from engine.core import FLOAT64, Aval, Shape, Symbol, stand_in
from engine.plans.linear_maps import Ints, Links, links
from engine.plans.step import Step, Steps

#: Dependencies of a value: a row for each of its elements, with a bit for each element of the inputs.
Bits = npt.NDArray[np.uint64]

_WORD = np.dtype("<u8")
_WORD_BITS = 64
#: Smaller matrices count as dense: fewer directions would save nothing.
SMALLEST = 32
#: The most words of bits to compute; a program that needs more counts as dense.
_MOST_WORDS = 2**25
#: The most entries of a pattern; a matrix with more counts as dense.
_MOST_ENTRIES = 2**18


@dataclass(frozen=True, slots=True, eq=False)
class Pattern:
    """Sparsity pattern of a matrix: its structurally nonzero entries in row-major order.

    rows, columns: the indices of each entry.
    shape: the numbers of rows and columns.
    """

    rows: Ints
    columns: Ints
    shape: tuple[int, int]

    def transposed(self) -> "Pattern":
        """Return the pattern of the transpose."""
        order = np.argsort(self.columns, kind="stable")
        return Pattern(self.columns[order], self.rows[order], self.shape[::-1])


@dataclass(frozen=True, slots=True, eq=False)
class Colouring:
    """A pattern with a colour for each column; columns of one colour share a direction.

    count: the number of colours.
    """

    pattern: Pattern
    colours: Ints
    count: int


def pattern(trace: Steps, outputs: Sequence[Symbol], inputs: Sequence[Symbol]) -> Pattern | None:
    """Return the sparsity pattern of the Jacobian of some values of a trace, or None.

    Outputs and inputs are flattened and concatenated. The pattern holds every entry that a derivative can reach, even
    if it is zero at some or all points. None if the matrix is too small to gain from it, has too many entries, or would
    take too long to analyse.
    """
    total, height = sum(x.aval.size for x in inputs), sum(y.aval.size for y in outputs)
    width = _words(total)
    room = _MOST_WORDS - (total + height) * width
    if min(total, height) < SMALLEST or room < 0:
        return None
    found: dict[int, Bits] = {}
    start = 0
    for x in inputs:
        found[x.index] = _own(x.aval.size, start, total)
        start += x.aval.size
    live = trace.live(outputs)
    last_reader = {a: index for index in live for a in trace.steps[index].args}
    last_reader |= {y.index: -1 for y in outputs}
    for index in live:
        step = trace.steps[index]
        if found.keys().isdisjoint(step.args):
            continue
        room -= step.aval.size * width
        if room < 0:
            return None
        bits = _reached(trace, step, found)
        if bits is not None:
            found[index] = found[index] | bits if index in found else bits
        for a in step.args:
            if last_reader[a] == index:
                found.pop(a, None)
    whole = np.concatenate([found.get(y.index, np.zeros((y.aval.size, width), _WORD)) for y in outputs])
    if int(np.bitwise_count(whole).sum()) > _MOST_ENTRIES:
        return None
    return Pattern(*_entries(whole), (height, total))


def _entries(bits: Bits) -> tuple[Ints, Ints]:
    """Return the row and column indices of all set bits, in row-major order."""
    rows, words = np.nonzero(bits)
    ones = np.unpackbits(bits[rows, words].view(np.uint8).reshape(-1, _WORD.itemsize), axis=1, bitorder="little")
    own, columns = np.nonzero(ones)
    return rows[own], words[own] * _WORD_BITS + columns


def _words(total: int) -> int:
    return -(-total // _WORD_BITS)


def _own(size: int, start: int, total: int) -> Bits:
    """Return the bits of an input: each of its elements depends on itself alone."""
    bits = np.zeros((size, _words(total)), _WORD)
    own = np.arange(start, start + size, dtype=_WORD)
    bits[np.arange(size), own // _WORD_BITS] = np.left_shift(np.ones(size, _WORD), own % _WORD_BITS)
    return bits


def _reached(trace: Steps, step: Step, found: Mapping[int, Bits]) -> Bits | None:
    """Return the bits of a step's result; None if it has no derivative with respect to the inputs."""
    op = step.op
    if op is None:
        return found[step.args[0]]
    moved = [i for i, a in enumerate(step.args) if a in found and op.is_smooth(i)]
    if not moved or not op.is_differentiable or not step.aval.is_floating:
        return None
    given = [found[step.args[i]] for i in moved]
    shapes = [trace.steps[a].aval.shape for a in step.args]
    if not all(map(_is_dense, given)):
        if op.kind == "elementwise" or op.name == "mul":
            whole = [bits.reshape(*shapes[i], bits.shape[-1]) for i, bits in zip(moved, given, strict=True)]
            return _aligned(whole, step.aval.shape)
        if op.name == "matmul":
            whole = [_contracted(bits, shapes, i) for i, bits in zip(moved, given, strict=True)]
            return _aligned(whole, step.aval.shape)
        bits = _spread(trace, step, moved, found) if op.kind == "linear" else None
        if bits is not None:
            return bits
    every = _either([_either(bits) for bits in given])
    return np.broadcast_to(every, (step.aval.size, len(every)))


def _is_dense(bits: Bits) -> bool:
    """Return whether all elements share one row of bits, most of which are set."""
    if len(bits) != 1 and bits.strides[0]:
        return False
    return len(bits) > 0 and 2 * int(np.bitwise_count(bits[0]).sum()) > bits.shape[1] * _WORD_BITS


def _either(bits: Sequence[Bits] | Bits) -> Bits:
    """Return the bitwise or of several arrays of bits."""
    found: Bits = np.bitwise_or.reduce(bits, axis=0)
    return found


def _aligned(given: Sequence[Bits], out: Shape) -> Bits:
    """Return the bits of an elementwise result; those of its operands have all their axes, and broadcast."""
    width = given[0].shape[-1]
    ndim = len(out) + 1
    whole = [bits.reshape((1,) * (ndim - bits.ndim) + bits.shape) for bits in given]
    bits = whole[0] if len(whole) == 1 else _either(np.broadcast_arrays(*whole))
    return np.broadcast_to(bits, (*out, width)).reshape(math.prod(out), width)


def _contracted(bits: Bits, shapes: Sequence[Shape], i: int) -> Bits:
    """Return the bits of an operand of matmul, united along the contracted axis, to broadcast to the result."""
    shape = shapes[i]
    whole = bits.reshape(*shape, bits.shape[-1])
    axis = len(shape) - 1 if i == 0 or len(shape) == 1 else len(shape) - 2
    summed = _either(np.moveaxis(whole, axis, 0))
    # If either operand is a vector, the result has no axis in place of the contracted one.
    return summed if 1 in (len(shape), len(shapes[1 - i])) else np.expand_dims(summed, axis)


def _spread(trace: Steps, step: Step, moved: list[int], found: Mapping[int, Bits]) -> Bits | None:
    """Return the bits of the result of a linear operation; None if its links are unknown."""
    xs = []
    for i, a in enumerate(step.args):
        plain = Aval(trace.steps[a].aval.shape, FLOAT64)
        x = stand_in(plain) if step.operation.is_smooth(i) else trace.known(trace.symbol(a))
        if x is None:
            return None
        xs.append(x)
    known = links(step.operation, moved, xs, step.attrs, step.aval.shape)
    if known is None and len(moved) > 1:
        parts = [_spread(trace, step, [i], found) for i in moved]
        return None if any(part is None for part in parts) else _either(np.array(parts))
    return None if known is None else _gathered([found[step.args[i]] for i in moved], known, step.aval.size)


def _gathered(given: Sequence[Bits], known: Links, size: int) -> Bits:
    """Return the bits of a result of `size` elements, from those of the operands and the links between them."""
    if known.sources is not None:
        none = np.zeros((1, given[0].shape[1]), _WORD)
        # Index -1, for no operand element, takes the last row, which has no bits.
        return np.concatenate([*given, none])[known.sources]
    assert known.targets is not None
    (bits,) = given
    order = np.argsort(known.targets, kind="stable")[np.count_nonzero(known.targets < 0) :]
    targets = known.targets[order]
    first = np.flatnonzero(np.diff(targets, prepend=-1))
    result = np.zeros((size, bits.shape[1]), _WORD)
    if len(first):
        result[targets[first]] = np.bitwise_or.reduceat(bits[order], first, axis=0)
    return result


def colouring(known: Pattern) -> Colouring | None:
    """Colour the columns of a matrix so that no two of one colour have an entry in the same row.

    Greedy, in the order of the columns. None if there would be more than half as many colours as columns.
    """
    height, width = known.shape
    if 2 * np.bincount(known.rows, minlength=1).max() > width:
        return None
    across = known.transposed()
    rows = across.columns.tolist()
    ends = np.searchsorted(across.rows, np.arange(1, width + 1)).tolist()
    #: For each row the colours of its entries, as bits.
    used_by_row = [0] * height
    colours = []
    start = 0
    for end in ends:
        used = 0
        for row in rows[start:end]:
            used |= used_by_row[row]
        free = ~used & (used + 1)
        for row in rows[start:end]:
            used_by_row[row] |= free
        colours.append(free.bit_length() - 1)
        start = end
    count = max(colours) + 1
    return Colouring(known, np.array(colours), count) if 2 * count <= width else None
