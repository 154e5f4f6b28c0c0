"""Layers of neural networks: the public names of `pullback.nn.layers`."""

from pullback.nn.layers import *  # noqa: F403
