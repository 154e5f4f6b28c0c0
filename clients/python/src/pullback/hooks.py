"""Hooks of optimizers: the public names of `pullback.nn.hooks`."""

from pullback.nn.hooks import *  # noqa: F403
