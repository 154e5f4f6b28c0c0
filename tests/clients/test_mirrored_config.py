"""The engine's own tests of flags, on the SDK."""

from tests.clients.mirrored import mirrored

LEFT_OUT = {
    "test_200_tasks_give_what_one_gives": "thousands of looks, each a request: test_threads has fewer",
    "test_32_threads_give_what_one_gives": "the same",
}

globals().update(mirrored("tests/engine/test_config.py", LEFT_OUT))
