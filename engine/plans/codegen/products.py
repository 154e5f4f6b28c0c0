"""Products: rewrite a sum of matrix products as one product of concatenated operands.

    a1 @ b1 + a2 @ b2 + ... = concat([a1, a2, ...], axis=1) @ concat([b1, b2, ...], axis=0)

The gradient of a weight that is used in every step of a recurrent network is such a sum. It is rewritten if the
products that are saved have more elements than the operands: writing and adding products then takes most of the time.
The size of a concatenation is bounded, because operands that died one by one are then alive together. Operands that
many sums share, such as the weights in `x @ u + h @ w` for each step, are concatenated once and count once.

A sum is a chain of additions of float64 matrices, each read only by the next one; its products are terms that nothing
else reads. If most first operands are transposed, the concatenation is transposed instead, and likewise for the second.
The order of additions differs from that of a tape, but is always the same.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from engine.core import FLOAT64, OPERATIONS, Aval
from engine.plans.codegen.structure import Structure
from engine.plans.step import Step

#: The most bytes of the concatenated operands of one product, and of all that a program keeps alive for longer.
_LARGEST = 2**22
_MOST = 2**25


def with_products_joined(structure: Structure) -> Structure:
    """Return a structure of the same values in which sums of products are one product each. Takes linear time."""
    if sum(step.runs("matmul") for step in structure.steps) < 2:
        return structure
    return _Joining(structure).result()


class Sum(NamedTuple):
    """A sum of matrices.

    number: the number of its last step.
    products, others: numbers of its terms: products, and others, which may broadcast.
    saved: the number of elements of all products but one.
    """

    number: int
    products: list[int]
    others: list[int]
    saved: int


class _Joining:
    """Rewriting of a structure: its steps, and new steps that replace some of them."""

    def __init__(self, structure: Structure) -> None:
        self._structure = structure
        self._steps = list(structure.steps)
        self._stand_for: dict[int, int] = {}
        self._made: dict[tuple[int, ...], int] = {}
        self._room = _MOST
        self._reads = Counter(structure.outputs)
        for step in self._steps:
            self._reads.update(step.args)

    def result(self) -> Structure:
        shared: dict[tuple[int, tuple[int, ...]], list[Sum]] = {}
        for found in self._sums():
            operands = [self._steps[a].args for a in found.products]
            if found.saved > self._size(a for pair in operands for a in pair):
                self._join(found, self._chunks(found.products))
            elif len(operands) > 1:
                for side, same in enumerate(zip(*operands, strict=True)):
                    shared.setdefault((side, same), []).append(found)
        for (side, same), sums in shared.items():
            self._join_shared(1 - side, same, [found for found in sums if found.number not in self._stand_for])
        return self._structure.replaced(self._steps, self._stand_for) if self._stand_for else self._structure

    def _join_shared(self, side: int, same: Sequence[int], sums: Sequence[Sum]) -> None:
        """Join the products of sums that share the operands `same` on the other side, which are concatenated once."""
        size = self._size(same)
        own = self._size(self._steps[a].args[side] for found in sums for a in found.products)
        nbytes = size * FLOAT64.itemsize
        if len(sums) > 1 and sum(found.saved for found in sums) > own + size and nbytes <= min(_LARGEST, self._room):
            self._room -= nbytes
            for found in sums:
                self._join(found, [found.products])

    def _sums(self) -> list[Sum]:
        """Return all sums of matrices, in the order of their numbers."""
        inside: set[int] = set()
        found = []
        for n in reversed(range(len(self._steps))):
            if n in inside or not self._is_sum(n):
                continue
            terms, pending = [], [n]
            while pending:
                a = pending.pop()
                if a == n or (self._reads[a] == 1 and self._is_sum(a) and self._are_alike(a, n)):
                    inside.add(a)
                    pending += reversed(self._steps[a].args)
                else:
                    terms.append(a)
            products = [a for a in terms if self._is_product(a) and self._are_alike(a, n)]
            own = set(products)
            others = [a for a in terms if a not in own]
            found.append(Sum(n, products, others, (len(products) - 1) * self._steps[n].aval.size))
        return found[::-1]

    def _is_sum(self, n: int) -> bool:
        step = self._steps[n]
        return step.runs("add") and _is_matrix(step) and any(self._are_alike(a, n) for a in step.args)

    def _are_alike(self, a: int, n: int) -> bool:
        return self._steps[a].aval == self._steps[n].aval

    def _is_product(self, n: int) -> bool:
        step = self._steps[n]
        return self._reads[n] == 1 and step.runs("matmul") and all(_is_matrix(self._steps[a]) for a in step.args)

    def _join(self, found: Sum, chunks: Sequence[Sequence[int]]) -> None:
        """Add the replacement of a sum: a product for each chunk, plus the other terms."""
        if len(chunks) == len(found.products):
            return
        step = self._steps[found.number]
        total, *rest = [*map(self._joined, chunks), *found.others]
        for a in rest:
            total = self._added(Step(step.op, (total, a), step.attrs, step.aval))
        self._stand_for[found.number] = total

    def _chunks(self, products: Sequence[int]) -> list[list[int]]:
        """Divide products into chunks to join, in order, within the bounds on bytes."""
        chunks: list[list[int]] = []
        nbytes = 0
        for a in products:
            size = self._size(self._steps[a].args) * FLOAT64.itemsize
            if chunks and nbytes + size <= min(_LARGEST, self._room):
                chunks[-1].append(a)
                nbytes += size
                continue
            self._room -= nbytes if chunks and len(chunks[-1]) > 1 else 0
            chunks.append([a])
            nbytes = size
        self._room -= nbytes if chunks and len(chunks[-1]) > 1 else 0
        return chunks

    def _size(self, numbers: Iterable[int]) -> int:
        """Return the number of elements of some matrices."""
        return sum(self._steps[a].aval.size for a in numbers)

    def _joined(self, products: Sequence[int]) -> int:
        """Return the product of concatenated operands that equals the sum of `products`."""
        if len(products) == 1:
            return products[0]
        step = self._steps[products[0]]
        firsts, seconds = zip(*(self._steps[a].args for a in products), strict=True)
        args = (self._side_by_side(firsts, 1), self._side_by_side(seconds, 0))
        return self._added(Step(step.op, args, step.attrs, step.aval))

    def _side_by_side(self, args: Sequence[int], axis: int) -> int:
        """Concatenate operands; if most are transposes, concatenate the originals and transpose the result."""
        transposes = [self._steps[a] for a in args if _is_transposed(self._steps[a])]
        if 2 * len(transposes) <= len(args):
            return self._concat(args, axis)
        like = transposes[0]
        plain = [step.args[0] if _is_transposed(step := self._steps[a]) else self._transpose(a, like) for a in args]
        return self._transpose(self._concat(plain, 1 - axis), like)

    def _transpose(self, n: int, like: Step) -> int:
        return self._added(Step(like.op, (n,), like.attrs, Aval(self._steps[n].aval.shape[::-1], FLOAT64)))

    def _concat(self, args: Sequence[int], axis: int) -> int:
        key = (*args, axis)
        if key not in self._made:
            shapes = [self._steps[a].aval.shape for a in args]
            length = sum(shape[axis] for shape in shapes)
            shape = (length, shapes[0][1]) if axis == 0 else (shapes[0][0], length)
            step = Step(OPERATIONS["concat"], tuple(args), {"axis": axis}, Aval(shape, FLOAT64))
            self._made[key] = self._added(step)
        return self._made[key]

    def _added(self, step: Step) -> int:
        self._steps.append(step)
        return len(self._steps) - 1


def _is_matrix(step: Step) -> bool:
    return len(step.aval.shape) == 2 and step.aval.dtype == FLOAT64


def _is_transposed(step: Step) -> bool:
    if not step.runs("transpose"):
        return False
    axes = step.attrs["axes"]
    return axes is None or [a % 2 for a in axes] == [1, 0]
