"""The engine's own tests of seeds, on the SDK."""

from tests.clients.mirrored import mirrored

globals().update(mirrored("tests/engine/test_seeds.py", {}))
