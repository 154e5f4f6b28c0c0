"""Values, gradients and second gradients of functions, against the ancestor's."""

import re
from typing import Any

import numpy as np
import pytest

from engine import Variable
from engine import functions as F
from tests.conformance.golden import EXCEPTIONS, FUNCTIONS, Case, array, assert_close

REDUCED_TO_A_SCALAR = {"mean_squared_error", "cross_entropy"}
WITH_A_LITERAL = {
    "add_c": lambda x, c: c + x,
    "sub_c": lambda x, c: c - x,
    "mul_c": lambda x, c: c * x,
    "div_c": lambda x, c: c / x,
}


def run(case: Case) -> tuple[list[Variable], Any]:
    """The operands and the result of a case."""
    op, attrs = case["op"], dict(case["attrs"])
    xs = [Variable(array(arg)) for arg in case["args"]]
    if attrs.get("axes") == []:
        del attrs["axes"]
    if op in WITH_A_LITERAL:
        y = WITH_A_LITERAL[op](*xs, **attrs)
    elif op == "pow":
        y = F.pow(*xs, attrs["p"])
    elif op == "mask_fill":
        y = F.mask_fill(*xs, array(attrs["mask"]), value=attrs["value"])
    elif op == "split":
        y = F.split(*xs, sizes=attrs["sizes"], axis=attrs["axis"])[attrs["take"]]
    else:
        y = getattr(F, op)(*xs, **attrs)
    for name in reversed(re.findall(r"\w+", case.get("wrap", ""))):
        y = getattr(F, name)(y)
    return xs, y


def assert_gradients(xs: list[Variable], expected: list[Case | None], what: str) -> None:
    """No gradient and a gradient of zeros are the same."""
    for k, (x, golden) in enumerate(zip(xs, expected, strict=True)):
        found = np.zeros(x.shape) if x.grad is None else x.grad.data
        assert_close(found, np.zeros(x.shape) if golden is None else array(golden), f"{what} wrt argument {k}")


CASES = [pytest.param(case, id=f"{case['id']}-{case['op']}") for case in FUNCTIONS]
WITHOUT_EXCEPTIONS = [
    pytest.param(case, id=f"{case['id']}-{case['op']}") for case in FUNCTIONS if case["id"] not in EXCEPTIONS
]


@pytest.mark.parametrize("case", CASES)
def test_value(case: Case) -> None:
    _, y = run(case)
    expected = array(case["value"])
    assert_close(y.data, expected.reshape(()) if case["op"] in REDUCED_TO_A_SCALAR else expected, "value")


@pytest.mark.parametrize("case", WITHOUT_EXCEPTIONS)
@pytest.mark.parametrize("create_graph", [False, True])
def test_gradients(case: Case, create_graph: bool) -> None:
    xs, y = run(case)
    if y.creator is not None:
        y.backward(create_graph=create_graph)
    assert_gradients(xs, case["grads"], "gradient")


@pytest.mark.parametrize("case", [p for p in WITHOUT_EXCEPTIONS if "second" in p.values[0]])
def test_second_gradients(case: Case) -> None:
    for second in case["second"]:
        if second is None:
            continue
        xs, y = run(case)
        y.backward(create_graph=True)
        k = second["of_grad_wrt_arg"]
        gradient = xs[k].grad
        assert gradient is not None
        for x in xs:
            x.cleargrad()
        if gradient.creator is not None:
            gradient.backward()
        assert_gradients(xs, second["grads"], f"gradient of the gradient wrt argument {k}")


@pytest.mark.parametrize("case", [p for p in CASES if p.values[0].get("ties")])
def test_ties_share_the_ancestors_gradient_evenly(case: Case) -> None:
    [x], y = run(case)
    y.backward()
    assert x.grad is not None
    whole = array(case["grads"][0])
    axes = tuple(case["attrs"]["axes"]) or None
    assert_close(x.grad.data, whole / whole.sum(axis=axes, keepdims=True), "gradient")
