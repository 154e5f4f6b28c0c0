"""Parameters over ten steps of given gradients, with hooks, against the ancestor's."""

import re

import pytest

from engine import Variable
from engine.nn.hooks import HOOKS
from engine.nn.optimizers import OPTIMIZERS as KINDS
from tests.conformance.golden import OPTIMIZERS, Case, array, assert_close


@pytest.mark.parametrize("case", [pytest.param(c, id=f"{c['id']}-{c['optimizer']}") for c in OPTIMIZERS])
def test_ten_steps(case: Case) -> None:
    config = dict(case["config"])
    hooks = [HOOKS[kind](float(value)) for kind, value in re.findall(r"(\w+)\(([^)]*)\)", config.pop("hooks"))]
    params = {name: Variable(array(value)) for name, value in case["params"].items()}
    optimizer = KINDS[case["optimizer"]](params, **config, hooks=hooks)
    assert len(case["steps"]) == 10
    for n, step in enumerate(case["steps"]):
        for name, p in params.items():
            p.grad = Variable(array(step["grads"][name]))
        optimizer.step()
        for name, p in params.items():
            assert_close(p.data, array(step["params"][name]), f"{name} after step {n + 1}")
