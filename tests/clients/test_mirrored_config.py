"""The engine's own tests of config, on the SDK."""

from tests.clients.mirrored import mirrored

globals().update(mirrored("tests/engine/test_config.py", {}))
