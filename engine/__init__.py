"""Reverse-mode automatic differentiation on NumPy: variables on a tape, and programs as graphs.

>>> from engine import Variable, functions as F
>>> x = Variable(0.5)
>>> y = F.square(F.exp(F.square(x)))
>>> y.backward()
>>> print(y, x.grad)
variable(1.648721270700128) variable(3.297442541400256)
"""

from engine import functions, transforms
from engine.core import Variable, errors, no_grad, test_mode
from engine.nn import hooks, layers, models, optimizers
from engine.nn.state import load, load_state_dict, save, state_dict
from engine.programs.dot import dot
from engine.random import normal, ones, ones_like, rand, randn, zeros, zeros_like
from engine.transforms import compile, compiled, descent, numerical

__all__ = [
    "Variable",
    "compile",
    "compiled",
    "descent",
    "dot",
    "errors",
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
