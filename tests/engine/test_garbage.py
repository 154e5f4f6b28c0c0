"""What is prepared and run is freed when it is let go: nothing waits for the garbage collector."""

import gc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from engine import functions as F
from engine.core.errors import InvalidValueError
from engine.programs import derivatives, parse
from engine.programs.evaluate import Backward, prepare
from engine.transforms import value_and_grad
from engine.transforms.compilation import compile, descent

SUM = parse("c = array([1.0, 2.0, 3.0]); y = sin(x * c); sum(y * y)")
PRODUCT = parse("y = sin(x) * 2; g = grad(y, x); g * g")
FAULTY = parse("cross_entropy(x, label)")
X = np.array([0.5, 1.5, 2.5])
LARGE = np.ones(40_000)


def faulty() -> None:
    prepared = prepare(FAULTY, {"x": np.ones((1, 3)), "label": np.array([7])})
    with pytest.raises(InvalidValueError, match="label 7"):
        prepared.run()


def called(f: Callable[..., Any]) -> None:
    """A compiled function, with arguments of several forms."""
    g = compile(f)
    for x in (0.5, 2, X, [X, 0.5], 0.25):
        g(x)


CALLS: dict[str, Callable[[], Any]] = {
    "forward": lambda: prepare(SUM, {"x": X}).run(),
    "numbers": lambda: prepare(PRODUCT, {"x": 0.5}, backward=Backward()).run(),
    "backward": lambda: prepare(SUM, {"x": X}, backward=Backward(retain_grad=True)).run(),
    "never run": lambda: prepare(SUM, {"x": X}, backward=Backward()),
    "regions": lambda: prepare(parse("sum(sin(x) * 2)"), {"x": LARGE}, backward=Backward()).run(),
    "order": lambda: prepare(PRODUCT, {"x": 0.5}, backward=Backward(order=4)).run(),
    "create_graph": lambda: prepare(PRODUCT, {"x": 0.5}, backward=Backward(create_graph=True)).run(),
    "batched": lambda: prepare(PRODUCT, {"x": X}, backward=Backward(), batched=["x"]).run(),
    "vjp": lambda: derivatives.vjp(SUM, {"x": X}, {"out": 1.0}).run(),
    "jvp": lambda: derivatives.jvp(SUM, {"x": X}, {"x": X}).run(),
    "jacobian": lambda: derivatives.jacobian(SUM, {"x": X}).run(),
    "hessian": lambda: derivatives.hessian(SUM, {"x": X}).run(),
    "refused": faulty,
    "compiled": lambda: called(lambda x: x),
    "compiled, of any arguments": lambda: called(lambda *args: args),
    "compiled gradient": lambda: compile(value_and_grad(lambda x: F.sum(F.sin(x) * x)))(LARGE),
    "descent": lambda: descent(lambda x: F.exp(x) / x)(0.5, learning_rate=0.1, steps=10),
}


@pytest.mark.sampled(one_in=3)
@pytest.mark.parametrize("name", CALLS)
def test_nothing_waits_for_the_collector(name: str) -> None:
    CALLS[name]()
    gc.collect()
    gc.disable()
    try:
        CALLS[name]()
        assert gc.collect() == 0
    finally:
        gc.enable()
