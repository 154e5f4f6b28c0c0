"""The engine's own tests of state, on the SDK."""

from tests.clients.mirrored import mirrored

globals().update(mirrored("tests/engine/test_state.py", {}))
