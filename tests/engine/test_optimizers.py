"""Optimizers and hooks: formulas, what is updated, what a failed step leaves, and state."""

import gc
import math
from typing import Any

import numpy as np
import pytest

from engine import Variable
from engine import functions as F
from engine.core.errors import AutogradError, BadAttributeError, ShapeMismatchError, UnknownNameError
from engine.nn.hooks import HOOKS, ClipGrad, WeightDecay
from engine.nn.models import MLP
from engine.nn.optimizers import OPTIMIZERS, SGD, Adam, AdamW, Momentum

KINDS = pytest.mark.parametrize("kind", OPTIMIZERS)


def parameter(value: Any, grad: Any = None, dtype: Any = None) -> Variable:
    p = Variable(value, dtype=dtype)
    p.grad = None if grad is None else Variable(grad, dtype=dtype)
    return p


class TestFormulas:
    """Written out with plain floats over three steps."""

    grads = (0.5, -1.5, 2.0)

    def follow(self, optimizer: Any, p: Variable) -> list[Any]:
        found = []
        for g in self.grads:
            p.grad = Variable(g)
            optimizer.step()
            found.append(p.data)
        return found

    def test_sgd(self) -> None:
        p = Variable(1.0)
        expected = [1 - 0.1 * sum(self.grads[:n]) for n in (1, 2, 3)]
        assert self.follow(SGD([p], learning_rate=0.1), p) == pytest.approx(expected, rel=1e-15)

    def test_momentum(self) -> None:
        p, q, v, expected = Variable(1.0), 1.0, 0.0, []
        for g in self.grads:
            v = 0.8 * v - 0.1 * g
            q += v
            expected.append(q)
        assert self.follow(Momentum([p], 0.1, 0.8), p) == pytest.approx(expected, rel=1e-15)

    @pytest.mark.parametrize("weight_decay", [None, 0.3])
    def test_adam_and_adamw(self, weight_decay: float | None) -> None:
        p, q, m, v, expected = Variable(1.0), 1.0, 0.0, 0.0, []
        for t, g in enumerate(self.grads, 1):
            m = 0.8 * m + 0.2 * g
            v = 0.9 * v + 0.1 * g * g
            alpha = 0.01 * math.sqrt(1 - 0.9**t) / (1 - 0.8**t)
            q = (q - alpha * m / (math.sqrt(v) + 1e-8)) * (1 - alpha * (weight_decay or 0.0))
            expected.append(q)
        optimizer = Adam([p], 0.01, 0.8, 0.9) if weight_decay is None else AdamW([p], 0.01, 0.8, 0.9, weight_decay)
        assert self.follow(optimizer, p) == pytest.approx(expected, rel=1e-14)

    def test_weight_decay(self) -> None:
        p = parameter([1.0, -2.0], [0.5, 0.5])
        SGD([p], 1.0, hooks=[WeightDecay(0.1)]).step()
        np.testing.assert_allclose(p.data, [0.4, -2.3], rtol=1e-15)

    def test_clip_grad_is_over_all_parameters_together(self) -> None:
        p, q = parameter([0.0, 0.0], [3.0, 0.0]), parameter(0.0, -4.0)
        SGD([p, q], 1.0, hooks=[ClipGrad(1.0)]).step()
        np.testing.assert_allclose(p.data, [-3 / (5 + 1e-6), 0.0], rtol=1e-15)
        assert q.data == pytest.approx(4 / (5 + 1e-6), rel=1e-15)

    def test_small_gradients_are_not_clipped(self) -> None:
        p = parameter(0.0, 0.3)
        SGD([p], 1.0, hooks=[ClipGrad(1.0)]).step()
        assert p.data == -0.3

    def test_hooks_run_in_order(self) -> None:
        p, q = parameter(10.0, 0.0), parameter(10.0, 0.0)
        SGD([p], 1.0, hooks=[WeightDecay(1.0), ClipGrad(1.0)]).step()
        SGD([q], 1.0, hooks=[ClipGrad(1.0), WeightDecay(1.0)]).step()
        assert p.data == pytest.approx(9.0, rel=1e-6)
        assert q.data == 0.0

    def test_what_the_hooks_made_of_a_gradient_stays_in_it(self) -> None:
        p, q = parameter(2.0, 1.0), parameter(0.0)
        SGD([p, q], 0.0, hooks=[WeightDecay(0.5)]).step()
        assert p.grad is not None
        assert (p.grad.data, q.grad) == (2.0, None)


@KINDS
class TestStep:
    def test_parameters_without_a_gradient_are_skipped(self, kind: str) -> None:
        p, q = parameter([1.0, 2.0], [1.0, 1.0]), parameter([1.0, 2.0])
        optimizer = OPTIMIZERS[kind]([p, q], hooks=[WeightDecay(0.1)])
        optimizer.step()
        assert not np.array_equal(p.data, [1.0, 2.0])
        assert np.array_equal(q.data, [1.0, 2.0])
        assert not [name for name in optimizer.state_dict() if name.endswith(".1")]

    def test_values_are_replaced_not_written_into(self, kind: str) -> None:
        p = parameter([1.0, 2.0])
        y = F.square(p)
        before = p.data
        p.grad = Variable([1.0, 1.0])
        OPTIMIZERS[kind]([p]).step()
        assert np.array_equal(before, [1.0, 2.0])
        p.cleargrad()
        y.backward()
        assert p.grad is not None
        assert np.array_equal(p.grad.data, [2.0, 4.0])

    @pytest.mark.parametrize("value", [1.0, [1.0, 2.0], np.zeros((0, 2))])
    @pytest.mark.parametrize("dtype", ["float64", "float32"])
    def test_shape_and_dtype_stay(self, kind: str, value: Any, dtype: str) -> None:
        p = parameter(value, np.ones(np.shape(value)), dtype)
        kinds = type(p.data), p.shape, p.dtype
        optimizer = OPTIMIZERS[kind]([p], hooks=[WeightDecay(0.1), ClipGrad(0.1)])
        for _ in range(2):
            optimizer.step()
        assert (type(p.data), p.shape, p.dtype) == kinds
        assert p.grad is not None
        assert p.grad.dtype == p.dtype

    def test_a_gradient_on_the_tape_is_taken_by_value(self, kind: str) -> None:
        p = Variable(2.0)
        F.square(p).backward(create_graph=True)
        OPTIMIZERS[kind]([p]).step()
        assert p.creator is None

    def test_parameters_are_looked_up_at_each_step(self, kind: str) -> None:
        model = MLP([2, 1], rng=0)
        optimizer = OPTIMIZERS[kind](model)
        optimizer.step()
        F.sum(model(np.ones((3, 2)))).backward()
        before = {name: p.data for name, p in model.params().items()}
        optimizer.step()
        assert all(not np.array_equal(p.data, before[name]) for name, p in model.params().items())

    @pytest.mark.parametrize("fault", ["hook", "computed"])
    def test_a_step_that_fails_changes_nothing(self, kind: str, fault: str) -> None:
        p, q = parameter([1.0, 2.0], [1.0, 1.0]), parameter(1.0, 1.0)
        optimizer = OPTIMIZERS[kind]([p, q], hooks=[WeightDecay(0.1)])
        optimizer.step()
        before = p.data, q.data, optimizer.state_dict()
        p.grad, q.grad = Variable([1.0, 1.0]), Variable(1.0)
        expected: type[Exception] = AutogradError
        if fault == "hook":
            optimizer.hooks.append(lambda params, grads: {"0": grads["0"]})
            expected = KeyError
        else:
            q._op = F.square(q).creator
        with pytest.raises(expected):
            optimizer.step()
        assert p.data is before[0]
        assert q.data == before[1]
        assert p.grad is not None
        assert np.array_equal(p.grad.data, [1.0, 1.0])
        assert optimizer.state_dict().keys() == before[2].keys()
        assert all(np.array_equal(value, before[2][name]) for name, value in optimizer.state_dict().items())

    def test_overflow_is_a_value(self, kind: str) -> None:
        p = parameter([1.0, 1e300], [np.inf, -1e308])
        optimizer = OPTIMIZERS[kind]([p], 1e10, hooks=[WeightDecay(1e300)])
        optimizer.step()
        assert not np.isfinite(p.data[0])

    def test_descends(self, kind: str) -> None:
        p = Variable([3.0, -2.0])
        optimizer = OPTIMIZERS[kind]({"p": p}, 0.1)
        for _ in range(200):
            p.cleargrad()
            F.sum(F.square(p)).backward()
            optimizer.step()
        assert np.abs(p.data).max() < 0.05

    def test_a_training_loop_leaves_nothing_for_the_collector(self, kind: str) -> None:
        model = MLP([3, 1], rng=0)
        optimizer = OPTIMIZERS[kind](model, hooks=[ClipGrad(1.0)])
        x = np.ones((4, 2))

        def train() -> None:
            for _ in range(20):
                loss = F.sum(F.square(model(x)))
                model.cleargrads()
                loss.backward()
                optimizer.step()

        train()
        gc.collect()
        gc.disable()
        try:
            train()
            assert gc.collect() == 0
        finally:
            gc.enable()


@KINDS
class TestState:
    def train(self, model: MLP, optimizer: Any, steps: int) -> None:
        for n in range(steps):
            loss = F.sum(F.square(model(np.arange(6.0).reshape(3, 2) / (n + 1))))
            model.cleargrads()
            loss.backward()
            optimizer.step()

    def test_goes_on_where_it_was(self, kind: str) -> None:
        model, other = MLP([2, 1], rng=0), MLP([2, 1], rng=1)
        optimizer, resumed = OPTIMIZERS[kind](model), OPTIMIZERS[kind](other)
        self.train(model, optimizer, 3)
        self.train(other, OPTIMIZERS[kind](other), 1)
        for name, p in other.params().items():
            p.data = model.params()[name].data
        resumed.load_state_dict(optimizer.state_dict())
        self.train(model, optimizer, 3)
        self.train(other, resumed, 3)
        for name, p in other.params().items():
            assert np.array_equal(p.data, model.params()[name].data)

    def test_what_is_given_out_is_a_copy(self, kind: str) -> None:
        p = parameter([1.0, 2.0], [1.0, 1.0])
        optimizer = OPTIMIZERS[kind]({"p": p})
        optimizer.step()
        state = optimizer.state_dict()
        for value in state.values():
            value[...] = 7
        assert all(not np.any(np.asarray(value) == 7) for value in optimizer.state_dict().values())

    def test_refuses_what_does_not_fit(self, kind: str) -> None:
        p = parameter([1.0, 2.0], [1.0, 1.0])
        optimizer = OPTIMIZERS[kind]({"p": p})
        optimizer.step()
        state = optimizer.state_dict()
        kept = [name for name in state if name != "t"]
        cases: list[tuple[dict[str, Any], type[AutogradError], str]] = [
            ({k: v for k, v in state.items() if k != "t"}, UnknownNameError, 'missing "t"'),
            (state | {"m.q": 1.0, "w.p": 2.0}, UnknownNameError, 'unexpected "m.q", unexpected "w.p"'),
            (state | {"t": -1}, BadAttributeError, "attribute t is -1"),
            (state | {"t": 1.5}, BadAttributeError, "attribute t is 1.5"),
        ]
        cases += [(state | {k: np.zeros(3)}, ShapeMismatchError, rf"{k} has shape \(3,\), its .* \(2,\)") for k in kept]
        if len(kept) > 1:
            cases.append(({"t": 1, kept[0]: state[kept[0]]}, UnknownNameError, f'missing "{kept[1]}"'))
        for wrong, expected, message in cases:
            with pytest.raises(expected, match=message):
                optimizer.load_state_dict(wrong)
            assert all(np.array_equal(value, state[k]) for k, value in optimizer.state_dict().items())


def test_state_is_kept_by_name() -> None:
    model = MLP([1], rng=0)
    optimizer = Adam(model)
    F.sum(model([[1.0]])).backward()
    optimizer.step()
    names = [f"{kept}.linear[0].{p}" for p in "wb" for kept in "mv"]
    assert list(optimizer.state_dict()) == ["t", *names]
    by_position = Momentum([parameter(1.0, 1.0)])
    by_position.step()
    assert {name: value.item() for name, value in by_position.state_dict().items()} == {"t": 1, "velocity.0": -0.01}


@pytest.mark.parametrize(
    ("kind", "config", "message"),
    [
        ("sgd", {"learning_rate": "fast"}, "sgd: attribute learning_rate is 'fast'; expected a number"),
        ("momentum", {"momentum": None}, "momentum: attribute momentum is None"),
        ("adam", {"beta1": 1.0}, "adam: attribute beta1 is 1.0; expected a number from 0 to below 1"),
        ("adam", {"beta2": -0.1}, "adam: attribute beta2 is -0.1"),
        ("adamw", {"weight_decay": True}, "adamw: attribute weight_decay is True"),
        ("adamw", {"alpha": [1]}, "adamw: attribute alpha is"),
    ],
)
def test_configurations_are_checked(kind: str, config: dict[str, Any], message: str) -> None:
    with pytest.raises(BadAttributeError, match=message):
        OPTIMIZERS[kind]([], **config)


@pytest.mark.parametrize(("kind", "attribute"), [("weight_decay", "rate"), ("clip_grad", "max")])
def test_configurations_of_hooks_are_checked(kind: str, attribute: str) -> None:
    with pytest.raises(BadAttributeError, match=f"{kind}: attribute {attribute} is 'x'; expected a number"):
        HOOKS[kind](**{attribute: "x"})
