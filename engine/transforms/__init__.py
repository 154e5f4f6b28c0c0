"""Transforms of functions: derivatives, vectorization, compilation and numerical checks."""

from engine.transforms import numerical
from engine.transforms.compilation import compile, compiled, descent
from engine.transforms.derivatives import (
    check_grads,
    grad,
    hessian,
    hvp,
    jacobian,
    jvp,
    stop_gradient,
    value_and_grad,
    vjp,
    vmap,
)
from engine.transforms.numerical import Difference, Uncertain

__all__ = [
    "Difference",
    "Uncertain",
    "check_grads",
    "compile",
    "compiled",
    "descent",
    "grad",
    "hessian",
    "hvp",
    "jacobian",
    "jvp",
    "numerical",
    "stop_gradient",
    "value_and_grad",
    "vjp",
    "vmap",
]
