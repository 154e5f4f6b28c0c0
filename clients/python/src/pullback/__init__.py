"""Autograd as a service, from Python: the engine's own API, on a server.

>>> from pullback import Variable, connect, functions as F
>>> with connect("local"):
...     x = Variable(0.5)
...     y = F.square(F.exp(F.square(x)))
...     y.backward()
...     print(y, x.grad)
variable(1.648721270700128) variable(3.297442541400256)
"""

from pullback import errors, functions, hooks, layers, models, optimizers, transforms
from pullback.connection import Connection, connect
from pullback.core.config import no_grad, test_mode
from pullback.core.variable import Variable
from pullback.nn.state import load, load_state_dict, save, state_dict
from pullback.pictures import dot
from pullback.progress import progress
from pullback.random import normal, ones, ones_like, rand, randn, zeros, zeros_like
from pullback.remote.client import AsyncClient, Client
from pullback.remote.session import AsyncSession, Session
from pullback.transforms import numerical
from pullback.version import __version__

__all__ = [
    "AsyncClient",
    "AsyncSession",
    "Client",
    "Connection",
    "Session",
    "Variable",
    "__version__",
    "connect",
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
    "progress",
    "rand",
    "randn",
    "save",
    "state_dict",
    "test_mode",
    "transforms",
    "zeros",
    "zeros_like",
]
