"""The engine's own tests of optimizers, on the SDK."""

from tests.clients.mirrored import mirrored

LEFT_OUT = {
    "TestStep.test_a_step_that_fails_changes_nothing": "hooks of one's own cannot run on a server: test_errors",
    "TestStep.test_a_training_loop_leaves_nothing_for_the_collector": "httpx has cycles of its own",
}

globals().update(mirrored("tests/engine/test_optimizers.py", LEFT_OUT))
