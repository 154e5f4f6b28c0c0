"""state_dict, load_state_dict, and files: exact, all or nothing, and clear about what does not fit."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from engine import Variable
from engine import functions as F
from engine.core.errors import AutogradError, InvalidValueError, ShapeMismatchError, UnknownNameError
from engine.nn.layers import RNN, Layer, Linear
from engine.nn.models import LSTM, MLP, Model
from engine.nn.optimizers import Adam
from engine.nn.state import load, load_state_dict, save, state_dict

X = np.random.default_rng(0).normal(size=(3, 2))
MAKE: dict[str, Any] = {
    "linear": lambda rng: Linear(2, rng=rng),
    "rnn": lambda rng: RNN(3, rng=rng),
    "mlp": lambda rng: MLP([4, 3, 1], "relu", rng=rng),
    "lstm": lambda rng: LSTM(3, 1, rng=rng),
}


@pytest.mark.parametrize("kind", MAKE)
@pytest.mark.parametrize("made", [False, True])
def test_another_model_becomes_the_same(kind: str, made: bool, tmp_path: Path) -> None:
    model, other = MAKE[kind](0), MAKE[kind](1)
    y = model(X)
    if made:
        assert not np.array_equal(other(X).data, y.data)
        other.reset_state()
    save(tmp_path / "model.safetensors", model)
    load_state_dict(other, load(tmp_path / "model.safetensors"))
    assert np.array_equal(other(X).data, y.data)
    assert list(state_dict(other)) == list(state_dict(model))
    F.sum(other(X)).backward()
    assert all(p.grad is not None for name, p in other.params().items() if "w" in name)


def test_parameters_stay_the_variables_that_they_were() -> None:
    linear = Linear(1, 2, rng=0)
    w = linear.params()["w"]
    y = linear(X)
    load_state_dict(linear, {"w": [[1], [2]], "b": [[3]]})
    assert linear.params()["w"] is w
    assert np.array_equal(w.data, [[1.0], [2.0]])
    y.backward()
    assert w.grad is not None
    np.testing.assert_allclose(w.grad.data, X.sum(axis=0)[:, np.newaxis], rtol=1e-15)


def test_what_is_given_out_and_taken_in_is_copied() -> None:
    linear = Linear(1, 2, rng=0)
    state = state_dict(linear)
    load_state_dict(linear, state)
    state["w"][...] = 7.0
    assert not np.any(linear.params()["w"].data == 7.0)


def test_scalars_and_dtypes_are_exact(tmp_path: Path) -> None:
    class Mixed(Model):
        def __init__(self) -> None:
            self.scalar = Variable(0.1)
            self.single = Variable([0.1, np.nan, -0.0], dtype="float32")
            self.empty = Variable(np.zeros((0, 3)))

    model, other = Mixed(), Mixed()
    save(tmp_path / "mixed", model)
    other.scalar.data = 3.0
    load_state_dict(other, load(tmp_path / "mixed"))
    for name, p in model.params().items():
        q = other.params()[name]
        assert type(q.data) is type(p.data)
        assert q.dtype == p.dtype
        assert np.asarray(q.data).tobytes() == np.asarray(p.data).tobytes()


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"w": None}, UnknownNameError, 'load_state_dict: the state is not one of this Linear: missing "w"'),
        ({"w": None, "b": None, "c": 1.0}, UnknownNameError, 'missing "w", missing "b", unexpected "c"'),
        ({"w": np.zeros((2, 3))}, ShapeMismatchError, r"w has shape \(2, 3\), expected \(2, 1\)"),
        ({"w": 1.0, "b": [1.0]}, ShapeMismatchError, r"w has shape \(\), .*; b has shape \(1,\), expected \(1, 1\)"),
        ({"b": np.array([[1]])}, InvalidValueError, "b is int64; expected float64 or float32"),
        ({"b": [[1.0], [2.0, 3.0]]}, InvalidValueError, "rectangular"),
        ({"b": "text"}, InvalidValueError, "dtype"),
    ],
)
def test_all_or_nothing(change: dict[str, Any], error: type[AutogradError], message: str) -> None:
    linear = Linear(1, 2, rng=0)
    before = state_dict(linear)
    state = {"w": np.ones((2, 1)), "b": np.ones((1, 1))} | change
    with pytest.raises(error, match=message):
        load_state_dict(linear, {name: value for name, value in state.items() if value is not None})
    assert all(np.array_equal(value, before[name]) for name, value in state_dict(linear).items())


def test_the_shape_of_what_is_not_made_yet() -> None:
    model = MLP([4, 1], rng=0)
    state = {"linear[0].w": np.ones((2, 4)), "linear[0].b": np.ones((1, 4)), "linear[1].b": np.ones((1, 1))}
    for wrong in (np.ones((4, 2)), np.ones(4)):
        with pytest.raises(ShapeMismatchError, match=r"linear\[1\].w has shape .*, expected \(None, 1\)"):
            load_state_dict(model, state | {"linear[1].w": wrong})
    assert list(model.params()) == ["linear[0].b", "linear[1].b"]
    load_state_dict(model, state | {"linear[1].w": np.ones((4, 1))})
    assert model(X).shape == (3, 1)


def test_a_computed_parameter_is_refused() -> None:
    class Doubled(Layer):
        def __init__(self) -> None:
            self.a = Variable(1.0)
            self.b = self.a * 2.0

    model = Doubled()
    with pytest.raises(AutogradError, match="b was computed by mul; expected a leaf"):
        load_state_dict(model, {"a": 5.0, "b": 6.0})
    assert model.a.data == 1.0


class TestFiles:
    def test_an_optimizer(self, tmp_path: Path) -> None:
        model = MLP([2, 1], rng=0)
        optimizer = Adam(model)
        F.sum(model(X)).backward()
        optimizer.step()
        save(tmp_path / "adam", optimizer)
        found = load(tmp_path / "adam")
        assert found["t"].shape == ()
        resumed = Adam(model)
        resumed.load_state_dict(found)
        assert all(np.array_equal(v, optimizer.state_dict()[k]) for k, v in resumed.state_dict().items())

    def test_arrays_in_any_layout(self, tmp_path: Path) -> None:
        arrays = {"t": X.T, "strided": np.arange(10)[::3], "big": np.array([1.5], ">f8"), "mask": X > 0, "list": [1, 2]}
        save(tmp_path / "arrays", arrays)
        found = load(str(tmp_path / "arrays"))
        for name, value in arrays.items():
            np.testing.assert_array_equal(found[name], value)
        assert (found["strided"].dtype, found["list"].dtype) == (np.dtype("int64"), np.dtype("float64"))

    def test_what_others_write_is_read_and_what_is_written_others_read(self, tmp_path: Path) -> None:
        save_file({"w": np.ones((2, 1), "float16"), "n": np.array([1], "int32")}, tmp_path / "theirs")
        found = load(tmp_path / "theirs")
        assert (found["w"].dtype, found["n"].dtype) == (np.dtype("float32"), np.dtype("int64"))
        save(tmp_path / "ours", Linear(1, 2, rng=0))
        assert sorted(load_file(tmp_path / "ours")) == ["b", "w"]

    @pytest.mark.parametrize("content", [b"", b"no safetensors", b"\xff" * 64])
    def test_what_is_no_safetensors_file(self, content: bytes, tmp_path: Path) -> None:
        (tmp_path / "bad").write_bytes(content)
        with pytest.raises(InvalidValueError, match="bad is no safetensors file"):
            load(tmp_path / "bad")

    def test_dtypes_that_are_not_supported(self, tmp_path: Path) -> None:
        save_file({"n": np.array([1], "uint64")}, tmp_path / "unsigned")
        with pytest.raises(InvalidValueError, match="dtype uint64 is not supported"):
            load(tmp_path / "unsigned")
        with pytest.raises(InvalidValueError, match="dtype complex128 is not supported"):
            save(tmp_path / "never", {"z": np.array([1j])})
        assert not (tmp_path / "never").exists()

    def test_no_file(self, tmp_path: Path) -> None:
        with pytest.raises(FileNotFoundError):
            load(tmp_path / "nowhere")
