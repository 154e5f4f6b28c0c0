"""Fusion: group the steps over large arrays that run together, tile by tile.

A group holds elementwise steps on arrays of one shape, and full sums of such arrays.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from engine.core import FLOAT64, Aval, Shape
from engine.core.values import BOOL
from engine.graph import postorder
from engine.plans.step import Step

#: Elements of the smallest array that is tiled; smaller ones fit the cache.
SMALLEST = 32768
#: The most arrays that a small group reads; a larger one may read one for every two steps.
_FEW = 4
#: Functions that are worth a group of one step, because a region computes them faster (see `sincos`).
_FASTER = ("sin", "cos")


@dataclass(frozen=True, slots=True)
class Group:
    """Fused steps.

    members: their numbers, in order.
    operands: numbers of the steps outside of the group that members read.
    results: numbers of the members that other steps read: arrays of `shape`, and sums, which are floats.
    shape: the shape of all arrays.
    """

    members: tuple[int, ...]
    operands: tuple[int, ...]
    results: tuple[int, ...]
    shape: Shape


def fused(steps: Sequence[Step], outputs: Iterable[int], smallest: int = SMALLEST) -> list[int | Group]:
    """Return the live steps, some of them fused into groups, in an order in which they can run.

    Broadcasts of a number that only members of groups read are left out: those read the number itself. Takes linear
    time.

    Args:
        steps: the steps, in topological order; operands are numbers of earlier steps.
        outputs: numbers of the values.
        smallest: the fewest elements of an array that is worth fusion.
    """
    outputs = list(outputs)
    shapes = [_shape_of_member(steps, n, smallest) for n in range(len(steps))]
    gathered: dict[tuple[Shape, int], list[int]] = {}
    for n, level in enumerate(_levels(steps, shapes)):
        shape = shapes[n]
        if shape is not None:
            gathered.setdefault((shape, level), []).append(n)
    groups = {key: members for key, members in gathered.items() if _is_worth_it(steps, members)}
    group_of = {n: key for key, members in groups.items() for n in members}
    read = {*outputs}
    for n, step in enumerate(steps):
        own = group_of.get(n)
        for a in operands_of_member(steps, n) if own else step.args:
            if own is None or group_of.get(a) != own:
                read.add(a)
    finished = {key: _group(steps, members, read, key[0]) for key, members in groups.items()}
    return _order(steps, outputs, {n: finished[key] for n, key in group_of.items()})


def operands_of_member(steps: Sequence[Step], n: int) -> tuple[int, ...]:
    """Return the operands of a member of a group; if one is an array, broadcast numbers are read as numbers."""
    step = steps[n]
    args = [_original(steps, a) for a in step.args]
    numbers = [_repeated_number(steps, a) for a in args]
    # Other functions than ufuncs may treat numbers differently from arrays.
    if step.lowering.ufunc is None or not any(
        m is None and steps[a].aval.shape == step.aval.shape for a, m in zip(args, numbers, strict=True)
    ):
        return tuple(args)
    return tuple(a if m is None else m for a, m in zip(args, numbers, strict=True))


def _original(steps: Sequence[Step], n: int) -> int:
    while steps[n].op is None and steps[n].args:
        n = steps[n].args[0]
    return n


def _repeated_number(steps: Sequence[Step], n: int) -> int | None:
    step = steps[n]
    if not step.runs("broadcast_to"):
        return None
    a = _original(steps, step.args[0])
    return a if _is_number(steps[a].aval) else None


def _is_number(aval: Aval) -> bool:
    return not aval.shape and (aval.dtype == FLOAT64 or aval.weak is not None)


def _shape_of_member(steps: Sequence[Step], n: int, smallest: int) -> Shape | None:
    """Return the shape of the arrays of a step that can be fused; None for any other step."""
    step = steps[n]
    if step.op is None or step.stream is not None or not step.args:
        return None
    is_sum = step.operation.name == "sum" and step.aval == Aval((), FLOAT64)
    if not is_sum and not (_is_elementwise(step) and step.aval.dtype in (FLOAT64, BOOL)):
        return None
    large = steps[step.args[0]].aval if is_sum else step.aval
    if large.size < smallest:
        return None
    avals = [steps[a].aval for a in step.args]
    is_alike = all((x.shape == large.shape and x.dtype in (FLOAT64, BOOL)) or _is_number(x) for x in avals)
    return large.shape if is_alike else None


def _is_elementwise(step: Step) -> bool:
    ufunc = step.lowering.ufunc
    return step.operation.kind == "elementwise" if ufunc is None else getattr(ufunc, "signature", None) is None


def _levels(steps: Sequence[Step], shapes: Sequence[Shape | None]) -> list[int]:
    """Return for each step its level: the most groups that a path to the step leaves.

    Members of one shape and one level form a group: every path out of it leads to higher levels, so groups form no
    cycle.
    """
    levels: list[int] = []
    for n, step in enumerate(steps):
        shape = shapes[n]
        level = 0
        for a in step.args if shape is None else operands_of_member(steps, n):
            stays = shapes[a] is None or (shapes[a] == shape and steps[a].aval.shape == shape)
            level = max(level, levels[a] if stays else levels[a] + 1)
        levels.append(level)
    return levels


def _is_worth_it(steps: Sequence[Step], members: Sequence[int]) -> bool:
    """Return whether fusion saves memory traffic; a sum of many arrays, for example, would keep all of them alive."""
    own = set(members)
    read = {a for n in members for a in operands_of_member(steps, n) if a not in own and steps[a].aval.shape}
    if len(read) > max(_FEW, len(members) // 2):
        return False
    return len(members) > 1 or steps[members[0]].operation.name in _FASTER


def _group(steps: Sequence[Step], members: Sequence[int], read: set[int], shape: Shape) -> Group:
    own = set(members)
    operands = dict.fromkeys(a for n in members for a in operands_of_member(steps, n) if a not in own)
    return Group(tuple(members), tuple(operands), tuple(n for n in members if n in read), shape)


def _order(steps: Sequence[Step], outputs: Sequence[int], group_of: dict[int, Group]) -> list[int | Group]:
    """Return the live steps and groups in topological order."""
    # A group takes the number of its first member.
    number = {n: group.members[0] for n, group in group_of.items()}

    def read(n: int) -> list[int]:
        args = group_of[n].operands if n in group_of else steps[n].args
        return [number.get(a, a) for a in args]

    return [group_of.get(n, n) for n in postorder([number.get(n, n) for n in outputs], read)]
