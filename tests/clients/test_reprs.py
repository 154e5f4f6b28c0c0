"""A repr of a model, a layer or an optimizer asks nothing of the server, and needs none."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

import engine.nn.layers
import pullback
from pullback import Variable, connect, hooks, layers, models, optimizers
from pullback import functions as F
from pullback.layers import Layer, Linear
from tests.app.conftest import Server


class Holder(Layer):
    def __init__(self, w: Variable) -> None:
        self.w = w


def trained(x: Variable) -> tuple[Any, ...]:
    """A model, a layer with a parameter that a step has changed, an optimizer, and what shows them."""
    model = models.MLP([4, 1], "tanh", rng=0)
    optimizer = optimizers.Adam(model, hooks=[hooks.ClipGrad(1.0)])
    loss = F.sum(model(x))
    loss.backward()
    optimizer.step()
    return model, optimizer, model.linear[0], layers.LSTM(3, rng=1), Holder(F.sum(x))


TEXTS = [
    'MLP([4, 1], activation="tanh", seed=0)',
    "Adam(params=4, alpha=0.001, beta1=0.9, beta2=0.999, hooks=[ClipGrad(max=1.0)])",
    "Linear(4, in_size=2, w=(2, 4), b=(1, 4))",
    "LSTM(3, seed=1)",
    "Holder(w=None)",
]


def test_no_request_is_made(server: Server) -> None:
    sent: list[httpx.Request] = []
    with connect(server.base_url, event_hooks={"request": [sent.append]}):
        shown = trained(Variable([[1.0, 2.0]]))
        before = len(sent)
        assert [repr(each) for each in shown] == TEXTS
        assert len(sent) == before


def test_the_session_may_be_gone(server: Server) -> None:
    with connect(server.base_url) as connection:
        shown = trained(Variable([[1.0, 2.0]]))
    assert [repr(each) for each in shown] == TEXTS
    with pytest.raises(pullback.errors.NotConnectedError):
        shown[0].params()["linear[0].w"].item()
    assert "session" in repr(connection)


def test_the_server_may_be_gone() -> None:
    def lost(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("gone")

    with connect("local") as connection:
        shown = trained(Variable([[1.0, 2.0]]))
        connection.flush()
        connection.client._http = httpx.Client(base_url="http://gone", transport=httpx.MockTransport(lost))
        connection.client.settings = connection.client.settings.__class__("http://gone", None, "application/json", 0, 1)
        assert [repr(each) for each in shown] == TEXTS
        connection.keep = True


def test_a_parameter_that_was_taken_up_has_a_shape_once_it_was_seen(server: Server) -> None:
    with connect(server.base_url) as connection:
        Variable([1.0, 2.0], name="weights")
        w = Variable([1.0, 2.0], name="kept")
        connection.flush()
        with connect(server.base_url, session=connection.id) as again:
            holder = Holder(again.variable("kept"))
            assert repr(holder) == "Holder(w=None)"
            assert holder.w.shape == w.shape
            assert repr(holder) == "Holder(w=(2,))"


def test_linear_is_shown_as_the_engine_shows_it(connection: pullback.Connection) -> None:
    for made in (lambda kind: kind(2, rng=0), lambda kind: kind(2, 3, bias=False, rng=0)):
        assert repr(made(Linear)) == repr(made(engine.nn.layers.Linear))
