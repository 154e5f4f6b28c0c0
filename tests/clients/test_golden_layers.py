"""The golden cases of layers, on the SDK."""

from tests.clients.mirrored import mirrored

globals().update(mirrored("tests/conformance/test_golden_layers.py", {}))
