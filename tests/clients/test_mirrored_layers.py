"""The engine's own tests of layers, on the SDK."""

from tests.clients.mirrored import mirrored

LEFT_OUT = {
    "TestState.test_another_batch_needs_a_reset": "a layer remembers what was refused until it is reset: test_errors",
}

globals().update(mirrored("tests/engine/test_layers.py", LEFT_OUT))
