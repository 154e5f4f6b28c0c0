"""Parts: operands of `concat` that are computed in place, in the buffer of its result."""

from collections import Counter
from collections.abc import Collection, Iterator
from typing import NamedTuple

from engine.core import FLOAT64
from engine.plans.codegen.structure import Structure
from engine.plans.step import Step


class Part(NamedTuple):
    """Location of an operand of `concat` in the result.

    whole: the number of the step that concatenates.
    span: the index of the part in the result, as code, such as "[:, 2:5]".
    """

    whole: int
    span: str


def is_joined(step: Step) -> bool:
    """Return whether a step concatenates arrays of float64."""
    return step.runs("concat") and step.aval.dtype == FLOAT64


def spans(structure: Structure, n: int) -> Iterator[tuple[int, str]]:
    """Yield the operands of a step that concatenates, each with its index in the result as code."""
    step = structure.steps[n]
    axis = step.attrs["axis"] % len(step.aval.shape)
    begin = 0
    for a in step.args:
        end = begin + structure.steps[a].aval.shape[axis]
        yield a, f"[{':, ' * axis}{begin}:{end}]"
        begin = end


def parts(structure: Structure, wholes: Collection[int], candidates: Collection[int]) -> dict[int, Part]:
    """Return the operands that can be computed in place, number -> part.

    Rows of a result are contiguous, like any array. Columns are not, and are taken only for operands that nothing else
    reads: sums over them may round differently, and products would copy them.

    Args:
        structure: the steps.
        wholes: numbers of the steps that concatenate into buffers.
        candidates: numbers of the steps whose result can be written to any array.
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
