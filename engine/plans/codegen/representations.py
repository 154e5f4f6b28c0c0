"""Representations: the Python type of each value in generated code, and the functions that can compute it."""

from collections.abc import Sequence

from engine.core import FLOAT64, Aval
from engine.core.values import BOOL
from engine.plans.step import Step

#: A Python float, a Python bool, or a NumPy array.
FLOAT, TRUTH, ARRAY = "float", "truth", "array"
#: Operators that Python and NumPy compute alike.
_EXACT = ("+", "-", "*", "/")


def representations(steps: Sequence[Step]) -> list[str]:
    """Return the representation of each step's value in generated code: FLOAT, TRUTH or ARRAY."""
    found: list[str] = []
    for step in steps:
        if step.op is None:
            representation = found[step.args[0]] if step.args else _representation(step.aval)
        elif step.aval.dtype == BOOL and on_numbers(step, [found[a] for a in step.args]):
            representation = TRUTH
        else:
            representation = FLOAT if _is_float(step.aval) else ARRAY
        found.append(representation)
    return found


def _representation(aval: Aval) -> str:
    if aval.weak is bool:
        return TRUTH
    return FLOAT if _is_float(aval) else ARRAY


def _is_float(aval: Aval) -> bool:
    return not aval.shape and aval.dtype == FLOAT64


def on_numbers(step: Step, given: Sequence[str]) -> bool:
    """Return whether a step is computed on Python numbers; `given` are the representations of its operands."""
    if step.aval.shape or step.stream is not None or ARRAY in given:
        return False
    if FLOAT not in given:
        return step.aval.dtype == BOOL and bool(step.lowering.inline) and not step.operation.is_differentiable
    if (
        TRUTH in given
        and step.operation.is_differentiable
        and step.operation.symbol not in _EXACT
        and step.operation.name != "where"
    ):
        # For an array of one bool the tape calls NumPy's function, which may round or choose differently.
        return False
    return step.aval.dtype == FLOAT64 or (step.aval.dtype == BOOL and step.lowering.scalar is not None)


def is_scalar(steps: Sequence[Step]) -> bool:
    """Return whether all steps are computed on Python numbers, by functions of floats (`Lowering.scalar`)."""
    found = representations(steps)
    return ARRAY not in found and all(
        on_numbers(step, [found[a] for a in step.args]) and step.lowering.scalar is not None
        for step in steps
        if step.op
    )


def writes_out(step: Step, steps: Sequence[Step]) -> bool:
    """Return whether the result of a step can be written to a given array."""
    takes_out = step.op is not None and step.lowering.takes_out and step.aval.dtype == FLOAT64
    return takes_out or calls_ufunc(step, steps)


def calls_ufunc(step: Step, steps: Sequence[Step]) -> bool:
    """Return whether a step calls its ufunc on arrays of float64."""
    return bool(
        step.op is not None
        and step.lowering.ufunc is not None
        and step.aval.shape
        and all(steps[a].aval.dtype == FLOAT64 for a in step.args)
    )
