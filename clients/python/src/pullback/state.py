"""The state of models and optimizers as arrays by name, in memory and in safetensors files.

A safetensors file is the length of its header (8 bytes, little-endian), the header in JSON, and the bytes of all
arrays.
Source: https://github.com/huggingface/safetensors#format.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from pullback.errors import InvalidValueError, ShapeMismatchError, UnknownNameError
from pullback.layers import Layer, Slot, Unmade
from pullback.optimizers import Optimizer
from pullback.recorder import Recorder
from pullback.values import Value, as_raw, dtype_of, shape_of
from pullback.variable import Variable

Array = np.ndarray[Any, Any]

_CODES = {"F64": "<f8", "F32": "<f4", "I64": "<i8", "BOOL": "|b1"}
_ALIGNMENT = 8


def state_dict(model: Layer) -> dict[str, Array]:
    """The parameters that are made, by name, as arrays of their own; one request for all of them.

    >>> from pullback.layers import Linear
    >>> {name: array.shape for name, array in state_dict(Linear(2, 3, rng=0)).items()}
    {'w': (3, 2), 'b': (1, 2)}
    """
    params = model.params()
    by_recorder: dict[int, tuple[Recorder, list[Variable]]] = {}
    for p in params.values():
        by_recorder.setdefault(id(p._recorder), (p._recorder, []))[1].append(p)
    for recorder, variables in by_recorder.values():
        recorder.look_all(variables)
    return {name: np.array(p.data) for name, p in params.items()}


def load_state_dict(model: Layer, state: Mapping[str, Any]) -> None:
    """Replaces the value of every parameter, all of them or none; makes those that the first call would have made.

    The parameters stay the variables that they were, and take the dtype that the state has.

    >>> from pullback.layers import Linear
    >>> linear = Linear(1, rng=0)
    >>> load_state_dict(linear, {"w": [[1.0], [2.0]], "b": [[0.5]]})
    >>> print(linear(Variable([[1.0, 1.0]])))
    variable([[3.5]])

    Raises:
        UnknownNameError: names that are missing, or that the model does not have.
        ShapeMismatchError: a value of another shape than its parameter.
        InvalidValueError: a value that is not floating; a parameter that was computed.
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
    for name, raw in raws.items():
        if dtype_of(raw).kind != "f":
            raise InvalidValueError(f"load_state_dict: {name} is {dtype_of(raw)}; expected float64 or float32")
    for name, slot in slots.items():
        if isinstance(slot.parameter, Variable):
            slot.parameter.data = raws[name]
        else:
            made = Variable._leaf(raws[name])
            made.name = slot.attribute
            setattr(slot.layer, slot.attribute, made)


def _fits(slot: Slot, raw: Value) -> bool:
    shape = shape_of(raw)
    return slot.parameter.fits(shape) if isinstance(slot.parameter, Unmade) else slot.parameter.shape == shape


def save(path: str | Path, held: Layer | Optimizer) -> None:
    """Writes the state of a model or an optimizer to a safetensors file."""
    state = held.state_dict() if isinstance(held, Optimizer) else state_dict(held)
    Path(path).write_bytes(dumps(state))


def load(path: str | Path, held: Layer | Optimizer) -> None:
    """Gives a model or an optimizer the state that a safetensors file holds.

    Raises:
        InvalidValueError: it is no such file.
        UnknownNameError, ShapeMismatchError: it is the state of something else.
    """
    state = loads(Path(path).read_bytes())
    if isinstance(held, Optimizer):
        held.load_state_dict(state)
    else:
        load_state_dict(held, state)


def dumps(state: Mapping[str, Array]) -> bytes:
    """A state as the bytes of a safetensors file."""
    header: dict[str, Any] = {}
    parts: list[bytes] = []
    end = 0
    for name, value in state.items():
        array = np.asarray(value)
        code = next(code for code, dtype in _CODES.items() if np.dtype(dtype) == array.dtype)
        parts.append(array.astype(_CODES[code], copy=False).tobytes())
        header[name] = {"dtype": code, "shape": list(array.shape), "data_offsets": [end, end + len(parts[-1])]}
        end += len(parts[-1])
    text = msgspec.json.encode(header)
    text += b" " * (-len(text) % _ALIGNMENT)
    return b"".join([len(text).to_bytes(8, "little"), text, *parts])


def loads(data: bytes) -> dict[str, Array]:
    """The state that the bytes of a safetensors file hold.

    >>> loads(dumps({"w": np.array([1.0, 2.0])}))
    {'w': array([1., 2.])}

    Raises:
        InvalidValueError: they are none, or hold dtypes that are not supported.
    """
    try:
        begin = 8 + int.from_bytes(data[:8], "little")
        header = msgspec.json.decode(data[8:begin])
        found = {}
        for name, about in header.items():
            if name == "__metadata__":
                continue
            start, end = about["data_offsets"]
            dtype = np.dtype(_CODES[about["dtype"]])
            array = np.frombuffer(data[begin + start : begin + end], dtype).reshape(about["shape"])
            found[name] = array.astype(dtype.newbyteorder("="))
        return found
    except (msgspec.DecodeError, KeyError, TypeError, ValueError) as error:
        raise InvalidValueError(
            f"these bytes are no safetensors file of float64, float32, int64 and bool: {error!r}"
        ) from error
