"""The workloads in Pullback as compiled Python functions: `engine.compile` traces a function at the first call.

Each function prepares one workload and returns a step; the step returns the value and the gradients, or the parameters
that it has made.
"""

from collections.abc import Callable
from typing import Any

from engine import compile as compiled
from engine import descent as descending
from engine import functions as F
from engine.transforms import hessian, value_and_grad
from tests.benchmarks import inputs

PACKAGE = "pullback-server"


def called(function: Callable[..., Any], *given: Any) -> Callable[[], object]:
    """A step that calls a function, which the first call has compiled."""
    function(*given)
    return lambda: function(*given)


def quickstart() -> Callable[[], object]:
    step = compiled(value_and_grad(lambda x: F.square(F.exp(F.square(x)))))
    return called(step, inputs.QUICKSTART_X)


def rosenbrock_2d(x: Any, y: Any) -> Any:
    return 100.0 * (y - x * x) ** 2 + (x - 1.0) ** 2


def descent_by_steps() -> Callable[[], object]:
    value_and_gradient = compiled(value_and_grad(rosenbrock_2d, argnums=(0, 1)))

    def step():
        x, y = inputs.DESCENT_START
        for _ in range(inputs.DESCENT_STEPS):
            _, (gx, gy) = value_and_gradient(x, y)
            x -= inputs.DESCENT_RATE * gx
            y -= inputs.DESCENT_RATE * gy
        return x, y

    return step


def descent() -> Callable[[], object]:
    descend = descending(rosenbrock_2d, argnums=(0, 1))
    options = {"learning_rate": inputs.DESCENT_RATE, "steps": inputs.DESCENT_STEPS}
    descend(*inputs.DESCENT_START, **options)
    return lambda: descend(*inputs.DESCENT_START, **options)


def updating(loss: Callable[..., Any], params: Any, *given: Any) -> Callable[[], object]:
    """A step of gradient descent, all of it compiled, on parameters that each step makes anew.

    params: a dict of arrays.
    """
    value_and_gradients = value_and_grad(loss)

    @compiled
    def update(params: Any, *given: Any) -> Any:
        value, grads = value_and_gradients(params, *given)
        return value, {name: param - inputs.RATE * grads[name] for name, param in params.items()}

    update(params, *given)

    def step():
        nonlocal params
        value, params = update(params, *given)
        return value, list(params.values())

    return step


def mlp_loss(params: Any, x: Any, labels: Any) -> Any:
    hidden = F.tanh(F.linear(x, params["w1"], params["b1"]))
    return F.cross_entropy(F.linear(hidden, params["w2"], params["b2"]), labels)


def mlp_small() -> Callable[[], object]:
    params = dict(zip(("w1", "b1", "w2", "b2"), inputs.mlp_parameters(), strict=True))
    return updating(mlp_loss, params, *inputs.mlp_batch(inputs.SMALL_BATCH))


def lstm_loss(params: Any, xs: Any, t: Any) -> Any:
    """Mean squared error of what follows the last state of one LSTM layer, which starts from zeros."""
    n = inputs.LSTM_HIDDEN
    h = c = None
    for k in range(inputs.LSTM_STEPS):
        z = F.linear(xs[k], params["x2z"], params["b"])
        if h is not None:
            z = z + h @ params["h2z"]
        i, f, u, o = z[:, :n], z[:, n : 2 * n], z[:, 2 * n : 3 * n], z[:, 3 * n :]
        kept = F.sigmoid(i) * F.tanh(u)
        c = kept if c is None else F.sigmoid(f) * c + kept
        h = F.sigmoid(o) * F.tanh(c)
    return F.mean_squared_error(F.linear(h, params["w"], params["c"]), t)


def lstm_cells() -> Callable[[], object]:
    return updating(lstm_loss, inputs.lstm_parameters(), *inputs.lstm_batch())


def waves() -> Callable[[], object]:
    step = compiled(value_and_grad(lambda x: F.sum(F.sin(F.exp(F.tanh(x))))))
    return called(step, inputs.elementwise_x())


def matmul() -> Callable[[], object]:
    step = compiled(value_and_grad(lambda a, b: F.sum(F.square(a @ b)), argnums=(0, 1)))
    return called(step, *inputs.matrices())


def rosenbrock(x: Any) -> Any:
    return F.sum(100.0 * (x[1:] - x[:-1] ** 2) ** 2 + (1.0 - x[:-1]) ** 2)


def rosenbrock_compiled() -> Callable[[], object]:
    """The Hessian alone."""
    return called(compiled(hessian(rosenbrock)), inputs.rosenbrock_x())


lstm_layer = lstm_cells
