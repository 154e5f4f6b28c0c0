"""The engine's own tests of reprs, on the SDK."""

from tests.clients.mirrored import mirrored

LEFT_OUT = {"test_hooks_of_ones_own_are_named": "hooks are those of the server"}

globals().update(mirrored("tests/engine/test_reprs.py", LEFT_OUT))
