"""Parts: operands of `concat` that are computed in place, in the buffer of what they are joined to."""

from collections import Counter
from collections.abc import Collection, Iterator
from typing import NamedTuple

from engine.core.values import FLOAT64
from engine.plans.codegen.structure import Structure
from engine.plans.step import Step


class Part(NamedTuple):
    """Where an operand lies in a result.

    whole: the number of the result.
    span: how its place is written behind the name of an array.
    """

    whole: int
    span: str


def is_joined(step: Step) -> bool:
    """Whether a step joins arrays of doubles."""
    return step.runs("concat") and step.aval.dtype == FLOAT64


def spans(structure: Structure, n: int) -> Iterator[tuple[int, str]]:
    """For a step that joins arrays its operands, and how the place of each is written behind the name of an array."""
    step = structure.steps[n]
    axis = step.attrs["axis"] % len(step.aval.shape)
    begin = 0
    for a in step.args:
        end = begin + structure.steps[a].aval.shape[axis]
        yield a, f"[{':, ' * axis}{begin}:{end}]"
        begin = end


def parts(structure: Structure, wholes: Collection[int], candidates: Collection[int]) -> dict[int, Part]:
    """For operands their places in results, where they can be computed in place.

    What lies in rows of a result is an array like any other. What lies in columns is not read by anything else, for
    sums over it may round otherwise, and products copy it.

    Args:
        structure: the steps.
        wholes: numbers of steps that join arrays, in buffers.
        candidates: numbers of steps that can be written to any array.
    """
    if not wholes:
        return {}
    reads = Counter(a for step in structure.steps for a in step.args)
    found: dict[int, Part] = {}
    for whole in wholes:
        is_of_rows = structure.steps[whole].attrs["axis"] % len(structure.steps[whole].aval.shape) == 0
        for a, span in spans(structure, whole):
            if a in candidates and a not in found and (is_of_rows or reads[a] == 1):
                found[a] = Part(whole, span)
    return found
