"""Fuse: which steps over large arrays are run together, tile by tile.

What is computed element by element, over arrays of one shape, can be; and so can sums over all of it, as its end.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from engine.core.values import BOOL, FLOAT64, Aval, Shape
from engine.graph.order import reached
from engine.plans.step import Step

#: Smaller arrays lie in the cache as a whole.
SMALLEST = 32768
#: So many arrays may be read by any group, more by one of twice as many steps.
_FEW = 4
#: Functions that are worth it alone.
_FASTER = ("sin", "cos")


@dataclass(frozen=True, slots=True)
class Group:
    """Steps that are run together.

    members: their numbers, in order.
    operands: numbers of what they read of others.
    results: numbers of what others read of theirs: arrays of `shape`, and sums, which are floats.
    shape: of all arrays.
    """

    members: tuple[int, ...]
    operands: tuple[int, ...]
    results: tuple[int, ...]
    shape: Shape


def fused(steps: Sequence[Step], outputs: Iterable[int], smallest: int = SMALLEST) -> list[int | Group]:
    """All that some values need, in an order in which it can be run: numbers of steps, and groups of them.

    Steps that only repeat a number for members of groups are left out: those read the number itself. Takes linear time.

    Args:
        steps: in an order in which they could be run one by one; operands are numbers of steps before.
        outputs: numbers of the values.
        smallest: how many elements an array has at least that is worth it.
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
    """What a member reads: a number itself in place of an array that repeats it, beside another array."""
    step = steps[n]
    args = [_original(steps, a) for a in step.args]
    numbers = [_repeated_number(steps, a) for a in args]
    # A function that is none of NumPy's may treat numbers otherwise.
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
    """The shape of the arrays that a step works on element by element, None for any other step."""
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
    """For each step how often the way to it leaves a group, at most.

    Members of one shape and one level make a group: a way out of it leads to higher levels only, and never back.
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
    """Whether running steps together saves memory traffic: a sum of many arrays would hold all of them at once."""
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
    """Steps and groups, each after what it reads."""
    # A group stands where its first member does.
    place = {n: group.members[0] for n, group in group_of.items()}

    def read(n: int) -> list[int]:
        args = group_of[n].operands if n in group_of else steps[n].args
        return [place.get(a, a) for a in args]

    return [group_of.get(n, n) for n in reached([place.get(n, n) for n in outputs], read)]
