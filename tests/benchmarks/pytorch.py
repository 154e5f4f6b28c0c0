"""The workloads in PyTorch on the CPU, as its tutorials write them: forward, `backward()`, the update without a tape.

Each function prepares one workload and returns a step; the step returns the value and the gradients, or the parameters
that the step has made, before they are converted to anything. All is float64.
"""

from collections.abc import Callable, Iterable

import torch
from torch import nn

from tests.benchmarks import inputs

PACKAGE = "torch"

torch.set_default_dtype(torch.float64)


def quickstart() -> Callable[[], object]:
    def step():
        x = torch.tensor(inputs.QUICKSTART_X, requires_grad=True)
        y = torch.square(torch.exp(torch.square(x)))
        y.backward()
        return y.detach(), x.grad

    return step


def descent_by_steps() -> Callable[[], object]:
    def step():
        x, y = (torch.tensor(start, requires_grad=True) for start in inputs.DESCENT_START)
        for _ in range(inputs.DESCENT_STEPS):
            loss = 100.0 * (y - x * x) ** 2 + (x - 1.0) ** 2
            loss.backward()
            descend((x, y), inputs.DESCENT_RATE)
        return x.detach(), y.detach()

    return step


def descend(params: Iterable[torch.Tensor], rate: float) -> None:
    """One step of gradient descent in place."""
    with torch.no_grad():
        for param in params:
            param -= rate * param.grad
            param.grad = None


def lstm_cells() -> Callable[[], object]:
    cell, linear = nn.LSTMCell(1, inputs.LSTM_HIDDEN), nn.Linear(inputs.LSTM_HIDDEN, 1)

    def predict(xs: torch.Tensor) -> torch.Tensor:
        h = c = torch.zeros(inputs.LSTM_BATCH, inputs.LSTM_HIDDEN)
        for x in xs:
            h, c = cell(x, (h, c))
        return linear(h)

    return update(predict, cell, linear)


def lstm_layer() -> Callable[[], object]:
    layer, linear = nn.LSTM(1, inputs.LSTM_HIDDEN), nn.Linear(inputs.LSTM_HIDDEN, 1)
    return update(lambda xs: linear(layer(xs)[0][-1]), layer, linear)


def update(
    predict: Callable[[torch.Tensor], torch.Tensor], recurrent: nn.Module, linear: nn.Linear
) -> Callable[[], object]:
    """A step of gradient descent of the mean squared error of what `predict` computes with the two modules.

    A recurrent module has two biases, which it adds: the second starts at zero and is left out of the result.
    """
    x2z, h2z, b, second = recurrent.parameters()
    params = {"x2z": x2z.T, "h2z": h2z.T, "b": b, "w": linear.weight.T, "c": linear.bias}
    with torch.no_grad():
        second.zero_()
        for name, value in inputs.lstm_parameters().items():
            params[name].copy_(torch.from_numpy(value))
    xs, t = (torch.from_numpy(array) for array in inputs.lstm_batch())
    optimizer = torch.optim.SGD([*recurrent.parameters(), *linear.parameters()], lr=inputs.RATE)

    def step():
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(predict(xs), t)
        loss.backward()
        optimizer.step()
        return loss.detach(), [param.detach() for param in params.values()]

    return step
