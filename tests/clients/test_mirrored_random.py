"""The engine's own tests of random, on the SDK."""

from tests.clients.mirrored import mirrored

globals().update(mirrored("tests/engine/test_random.py", {}))
