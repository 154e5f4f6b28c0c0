"""Versions: of this package, and of the oldest server that it speaks with."""

__version__ = "0.1.0"
OLDEST_SERVER = "0.1.0"
