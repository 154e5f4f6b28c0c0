"""Outputs and gradients of layers and models over time, against the ancestor's."""

import numpy as np
import pytest

from engine import Variable
from engine import functions as F
from engine.nn.layers import LAYERS as LAYER_KINDS
from engine.nn.layers import Layer
from engine.nn.models import MODELS
from engine.nn.state import load_state_dict
from tests.conformance.golden import LAYERS, Case, array, assert_close


def build(case: Case) -> Layer:
    """An LSTM with an `out_size` is the model of that name, else the layer."""
    kind, config = case["model"], case["config"]
    is_model = kind == "mlp" or (kind == "lstm" and "out_size" in config)
    model = (MODELS if is_model else LAYER_KINDS)[kind](**config, rng=0)
    load_state_dict(model, {name: array(value) for name, value in case["params"].items()})
    return model


@pytest.mark.parametrize("case", [pytest.param(c, id=f"{c['id']}-{c['model']}") for c in LAYERS])
def test_outputs_loss_and_gradients_over_time(case: Case) -> None:
    assert case["loss"] == "sum over steps of sum(square(output))"
    model = build(case)
    for _ in range(2):  # the second time after a reset: nothing is left of the first
        model.reset_state()
        model.cleargrads()
        outputs = [model(Variable(array(x))) for x in case["inputs"]]
        for n, (y, expected) in enumerate(zip(outputs, case["outputs"], strict=True)):
            assert_close(y.data, array(expected), f"output at time {n}")
        loss = sum(F.sum(F.square(y)) for y in outputs)
        assert isinstance(loss, Variable)
        assert_close(loss.data, array(case["loss_value"]).reshape(()), "loss")
        loss.backward()
        params = model.params()
        assert set(params) == set(case["params"])
        for name, p in params.items():
            golden = case["grads"].get(name)
            found = np.zeros(p.shape) if p.grad is None else p.grad.data
            assert_close(found, np.zeros(p.shape) if golden is None else array(golden), f"gradient of {name}")
