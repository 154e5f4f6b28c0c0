"""The golden cases of functions, on the SDK."""

from tests.clients.mirrored import mirrored

globals().update(mirrored("tests/conformance/test_golden_functions.py", {}))
