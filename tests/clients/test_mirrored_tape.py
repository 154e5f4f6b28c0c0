"""The engine's own tests of variables, on the SDK."""

from tests.clients.mirrored import mirrored

LEFT_OUT = {
    "test_a_view_s_base_is_read_only": "no value here is a view",
    "test_joining_many_is_linear": "a session holds 10,000 variables",
    "test_errors_name_what_was_wrong": "dropout needs no rng here; the rest is in test_errors",
    "test_a_chain_of_100_000_operations_is_no_recursion": "a session's tape has 100,000 variables",
    "test_a_training_loop_leaves_no_cycles_behind": "httpx has cycles of its own",
}

globals().update(mirrored("tests/engine/test_tape.py", LEFT_OUT))
