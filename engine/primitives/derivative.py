"""The operation `grad`: gradient of one value with respect to another, inside a program or on a tape."""

import numpy as np

from engine.core import (
    NotDifferentiableError,
    NotScalarError,
    Operand,
    Symbol,
    Variable,
    dtype_of,
    ex,
    gradients,
    shape_of,
)
from engine.primitives.arithmetic import ones_like, zeros_like
from engine.rows import composite
from engine.tracers import Taped


def _grad(y: Operand, x: Operand) -> Operand:
    if dtype_of(y).kind != "f":
        raise NotDifferentiableError(f"grad: y has dtype {dtype_of(y)}; expected a floating value")
    if dtype_of(x).kind != "f":
        raise NotDifferentiableError(f"grad: x has dtype {dtype_of(x)}; expected a floating value")
    if any(n != 1 for n in shape_of(y)):
        raise NotScalarError(f"grad: y has shape {shape_of(y)}; expected one element: reduce it, as in grad(sum(y), x)")
    if isinstance(x, Symbol) and x.aval.weak:
        raise NotDifferentiableError("grad: x is made of literals alone; make it an input")
    found = None
    if isinstance(y, Taped | Variable) and isinstance(x, Taped | Variable):
        if getattr(y, "recorder", None) is not getattr(x, "recorder", None):
            raise NotDifferentiableError("grad: y and x are on different tapes; use transforms.grad of a function")
        found = gradients([(y, ones_like(y))], [x], create_graph=True)[0]
    elif not isinstance(y, float | Variable | np.ndarray | Symbol | Taped):
        raise NotDifferentiableError("grad: y is on no tape here; use transforms.grad of a function")
    return zeros_like(x) if found is None else found


grad = composite(
    "grad",
    ("y", "x"),
    _grad,
    examples=(ex((), ()), ex((), (3,)), ex((1,), (2, 3))),
    doc="Gradient of y, which has one element, with respect to x; zeros if y does not depend on x.",
)
