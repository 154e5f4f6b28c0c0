"""Transforms of functions: derivatives, vectorization, compilation and numerical checks."""

from pullback.transforms import numerical
from pullback.transforms.batching import vmap
from pullback.transforms.checking import check_grads
from pullback.transforms.compilation import compile, compiled, descent
from pullback.transforms.derivatives import grad, hessian, hvp, jacobian, jvp, stop_gradient, value_and_grad, vjp
from pullback.transforms.numerical import Difference, Uncertain

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
