"""A physics-informed network: its loss as a program over HTTP, and the same on the local tape.

A network u(x) is fitted to -u'' = f on [0, 1] with u(0) = u(1) = 0, or to -u''' = f' in the same way, at collocation
points. Source: Raissi, Perdikaris and Karniadakis, Physics-informed neural networks (2019).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from engine import Variable
from engine import functions as F
from engine.nn.models import MLP
from tests.app.calls import ask, assert_close, evaluate
from tests.app.test_contract import Array
from tests.app.test_registered_programs import register

if TYPE_CHECKING:
    from tests.app.conftest import Server

Arrays = dict[str, Array]

RTOL = 1e-10
ENDS = np.array([[0.0], [1.0]])
POINTS = np.linspace(0.02, 0.98, 25).reshape(-1, 1)
#: f and f', of which sin(pi x) is the solution.
SOURCES = {2: np.pi**2 * np.sin(np.pi * POINTS), 3: np.pi**3 * np.cos(np.pi * POINTS)}
each_order = pytest.mark.parametrize("order", SOURCES)


def loss_program(order: int) -> str:
    """The loss, with as many gradients nested as the equation has derivatives."""
    slopes = "\n".join(f"d{n} = grad(sum(d{n - 1}), x)" for n in range(1, order + 1))
    return f"""
d0 = tanh(tanh(x @ w1 + b1) @ w2 + b2) @ w3 + b3
{slopes}
ends = tanh(tanh([[0], [1]] @ w1 + b1) @ w2 + b2) @ w3 + b3
loss = mean((d{order} + f)**2) + 10*sum(ends**2)
"""


def network(seed: int = 0) -> MLP:
    """1-16-16-1, with weights and biases that are all in use."""
    model = MLP([16, 16, 1], activation="tanh", rng=seed)
    model(Variable(POINTS))
    rng = np.random.default_rng(seed)
    for parameter in model.params().values():
        parameter.data = rng.normal(scale=0.7, size=parameter.shape)
    return model


def weights(model: MLP) -> Arrays:
    """The network's parameters under the names that they have in the program."""
    return {name: parameter.data for name, parameter in parameters(model).items()}


def parameters(model: MLP) -> dict[str, Any]:
    return {f"{kind}{n}": getattr(linear, kind) for n, linear in enumerate(model.linear, 1) for kind in "wb"}


def local_loss(model: MLP, order: int) -> Variable:
    """The loss on the tape: a backward pass, itself recorded, for every derivative."""
    x = Variable(POINTS)
    slope: Any = model(x)
    for _ in range(order):
        clear(x, model)
        F.sum(slope).backward(create_graph=True)
        slope = x.grad
    clear(x, model)
    loss: Variable = F.mean((slope + SOURCES[order]) ** 2) + 10 * F.sum(model(ENDS) ** 2)
    return loss


def clear(x: Variable, model: MLP) -> None:
    x.cleargrad()
    model.cleargrads()


def gradients(model: MLP) -> Any:
    return {name: parameter.grad for name, parameter in parameters(model).items()}


def asked(model: MLP, order: int) -> dict[str, Any]:
    return {"expr": loss_program(order), "inputs": {"x": POINTS, "f": SOURCES[order], **weights(model)}}


@each_order
def test_loss_and_gradient(server: Server, order: int) -> None:
    model = network()
    loss = local_loss(model, order)
    loss.backward()
    answer = evaluate(server, **asked(model, order), backward={"wrt": list(weights(model))})
    assert_close(answer["values"], {"loss": loss.data}, RTOL)
    assert_close(answer["grads"], {name: g.data for name, g in gradients(model).items()}, RTOL)


@each_order
def test_gradient_program(server: Server, order: int) -> None:
    """A loss that is registered once, with its points bound, and whose gradient is a program too."""
    model, other = network(), network(seed=1)
    fixed = {"x": POINTS, "f": SOURCES[order]}
    given = register(server, expr=loss_program(order), bind=fixed)["id"]
    answer = evaluate(server, program=given, inputs=weights(model), backward={"create_graph": True})
    found = evaluate(server, program=answer["grad_program"], inputs=weights(other))
    local_loss(other, order).backward()
    assert_close(found["values"], {f"grad_{name}": g.data for name, g in gradients(other).items()}, RTOL)


@each_order
def test_curvature_along_a_direction(server: Server, order: int) -> None:
    model, rng = network(), np.random.default_rng(2)
    vectors = {name: rng.normal(size=w.shape) for name, w in weights(model).items()}
    local_loss(model, order).backward(create_graph=True)
    slope: Any = sum(F.sum(g * vectors[name]) for name, g in gradients(model).items())
    model.cleargrads()
    slope.backward()
    answer = ask(server, "/v1/hvp", **asked(model, order), vectors=vectors, wrt=list(vectors))
    assert_close(answer["hvp"], {name: g.data for name, g in gradients(model).items()}, RTOL)
