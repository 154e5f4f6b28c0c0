"""The golden cases of functions, on the SDK."""

import pytest

from tests.clients.mirrored import mirrored

globals().update(mirrored("tests/conformance/test_golden_functions.py", {}))
#: The engine's own run of them is whole everywhere.
pytestmark = pytest.mark.sampled(one_in=4)
