"""The state of models and optimizers as arrays by name, in memory and in safetensors files."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from ..core.errors import InvalidValueError, ShapeMismatchError, UnknownNameError
from ..core.values import Array, Value, as_raw, dtype_of, shape_of
from ..core.variable import Variable
from . import tensorfile
from .layers import Layer, Slot, Unmade
from .optimizers import Optimizer

_BYTES_ARE = "these bytes are"


def state_dict(model: Layer) -> dict[str, Array]:
    """Return copies of the parameters that are made, as arrays by name.

    >>> {name: array.shape for name, array in state_dict(layers.Linear(2, 3, rng=0)).items()}
    {'w': (3, 2), 'b': (1, 2)}
    """
    return {name: np.array(p.data) for name, p in model.params().items()}


def load_state_dict(model: Layer, state: Mapping[str, object]) -> None:
    """Replace the values of all parameters, or of none; make those that the first call would have made.

    The parameters remain the same variables; they take the dtype of the state.

    >>> linear = layers.Linear(1, rng=0)
    >>> load_state_dict(linear, {"w": [[1.0], [2.0]], "b": [[0.5]]})
    >>> print(linear(Variable([[1.0, 1.0]])))
    variable([[3.5]])

    Raises:
        UnknownNameError: names that are missing, or that the model does not have.
        ShapeMismatchError: a value of another shape than its parameter.
        InvalidValueError: a value that is not floating; a parameter that was computed: only a leaf's value can be
            replaced.
    """
    slots = model.slots()
    wrong = [f'missing "{name}"' for name in slots if name not in state]
    wrong += [f'unexpected "{name}"' for name in state if name not in slots]
    if wrong:
        raise UnknownNameError(
            f"load_state_dict: the state is not one of this {type(model).__name__}: {', '.join(wrong)}"
        )
    raws = {name: as_raw(state[name]) for name in slots}
    shapes = [
        f"{name} has shape {shape_of(raws[name])}, expected {slot.parameter.shape}"
        for name, slot in slots.items()
        if not _fits(slot, raws[name])
    ]
    if shapes:
        raise ShapeMismatchError(f"load_state_dict: {'; '.join(shapes)}")
    for name, slot in slots.items():
        if dtype_of(raws[name]).kind != "f":
            raise InvalidValueError(f"load_state_dict: {name} is {dtype_of(raws[name])}; expected float64 or float32")
        if isinstance(slot.parameter, Variable) and slot.parameter.creator is not None:
            raise InvalidValueError(
                f"load_state_dict: {name} was computed by {slot.parameter.creator.name}; expected a leaf"
            )
    for name, slot in slots.items():
        if isinstance(slot.parameter, Variable):
            slot.parameter.data = raws[name]
        else:
            setattr(slot.layer, slot.attribute, Variable(raws[name], name=slot.attribute))


def dumps(state: Layer | Optimizer | Mapping[str, object]) -> bytes:
    """Return the state of a model or an optimizer, or arrays by name, as the bytes of a safetensors file.

    Raises:
        InvalidValueError: a value of a dtype that is not supported.
    """
    if isinstance(state, Layer):
        state = state_dict(state)
    elif isinstance(state, Optimizer):
        state = state.state_dict()
    return tensorfile.write({name: np.asarray(as_raw(value)) for name, value in state.items()})


def loads(data: bytes) -> dict[str, Array]:
    """Read the result of `dumps`: arrays by name, for `load_state_dict`.

    Raises:
        InvalidValueError: the bytes are no safetensors file, or it has a dtype that is not supported.
    """
    try:
        state = tensorfile.read(data)
    except ValueError as error:
        raise InvalidValueError(f"{_BYTES_ARE} no safetensors file of supported dtypes: {error}") from error
    return {name: np.asarray(as_raw(array)) for name, array in state.items()}


def save(path: str | Path, state: Layer | Optimizer | Mapping[str, object]) -> None:
    """Write a safetensors file; see `dumps`.

    Raises:
        InvalidValueError: a value of a dtype that is not supported.
        OSError: the file cannot be written.
    """
    Path(path).write_bytes(dumps(state))


def load(path: str | Path) -> dict[str, Array]:
    """Read a file that `save` wrote: arrays by name, for `load_state_dict`.

    Raises:
        InvalidValueError: the file is no safetensors file, or has a dtype that is not supported.
        OSError: the file cannot be read.
    """
    try:
        return loads(Path(path).read_bytes())
    except InvalidValueError as error:
        raise InvalidValueError(f"load: {path} is{error.detail.removeprefix(_BYTES_ARE)}") from error


def _fits(slot: Slot, raw: Value) -> bool:
    p = slot.parameter
    return p.fits(shape_of(raw)) if isinstance(p, Unmade) else p.shape == shape_of(raw)
