"""The golden cases of optimizers, on the SDK."""

from tests.clients.mirrored import mirrored

globals().update(mirrored("tests/conformance/test_golden_optimizers.py", {}))
