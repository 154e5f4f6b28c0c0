"""Optimizers: the public names of `pullback.nn.optimizers`."""

from pullback.nn.optimizers import *  # noqa: F403
