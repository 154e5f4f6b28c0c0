"""Models made of layers: the public names of `pullback.nn.models`."""

from pullback.nn.models import *  # noqa: F403
