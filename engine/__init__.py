"""Reverse-mode automatic differentiation on NumPy: variables on a tape, and programs as graphs.

>>> from engine import Variable, functions as F
>>> x = Variable(0.5)
>>> y = F.square(F.exp(F.square(x)))
>>> y.backward()
>>> print(y, x.grad)
variable(1.648721270700128) variable(3.297442541400256)
"""

import engine.copies  # noqa: F401 - registers with copyreg
from engine import functions, hooks, layers, models, numerical, optimizers, transforms
from engine.compiled import compile, compiled, descent
from engine.config import no_grad, test_mode
from engine.graph.dot import dot
from engine.random import normal, ones, ones_like, rand, randn, zeros, zeros_like
from engine.state import load, load_state_dict, save, state_dict
from engine.variable import Variable

__all__ = [
    "Variable",
    "compile",
    "compiled",
    "descent",
    "dot",
    "functions",
    "hooks",
    "layers",
    "load",
    "load_state_dict",
    "models",
    "no_grad",
    "normal",
    "numerical",
    "ones",
    "ones_like",
    "optimizers",
    "rand",
    "randn",
    "save",
    "state_dict",
    "test_mode",
    "transforms",
    "zeros",
    "zeros_like",
]
