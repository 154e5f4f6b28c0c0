"""The engine's own tests of models, on the SDK."""

from tests.clients.mirrored import mirrored

globals().update(mirrored("tests/engine/test_models.py", {}))
