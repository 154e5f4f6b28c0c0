"""Sessions serialized and restored bit for bit: variables, tapes, flags, layers, optimizers, the generator's state.

A snapshot is a CRC-32 and a MessagePack document. Large arrays are stored beside it, each under a number of its own and
only once: arrays of variables are never written into, so those of the last snapshot need not be stored again.
"""

import ctypes
import platform
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec
import numpy as np
import scipy

from app import __version__
from app.sessions.session import MODULES, Constant, Module, Quotas, Session, SessionObject, Steps
from engine.core import DTYPES, Integers, Value, Variable
from engine.nn import checkpoint

#: Format of snapshots; other ones are refused.
FORMAT = 1
#: Arrays of at least so many bytes are stored beside the document.
LARGE = 4096
#: Larger integers become texts: Python's are unbounded, MessagePack's have 64 bits.
_WORD = 2**63
_CHECKSUM_BYTES = 4

Array = np.ndarray[Any, Any]


class DamagedSnapshotError(Exception):
    """Bytes that are not a snapshot, or one of another release."""


@dataclass(slots=True)
class StoredArrays:
    """Arrays beside a session's last snapshot by number, each with its checksum; and the next free number."""

    arrays: dict[int, tuple[Array, int]] = field(default_factory=dict)
    next: int = 0


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A session serialized: its document, new large arrays by number, and the numbers of all large arrays."""

    document: bytes
    new: dict[int, bytes]
    numbers: tuple[int, ...]


#: Versions on which the bits of results depend.
VERSIONS = {"pullback": __version__, "numpy": np.__version__, "scipy": scipy.__version__, "machine": platform.machine()}


class _Writer:
    def __init__(self, kept: StoredArrays) -> None:
        self._before = {id(array): (number, checksum) for number, (array, checksum) in kept.arrays.items()}
        self._places: dict[int, int] = {}
        self.next = kept.next
        self.arrays: list[Any] = []
        self.large: dict[int, tuple[Array, int]] = {}
        self.new: dict[int, bytes] = {}

    def value(self, value: Value) -> Any:
        """Write a number as itself, an array as a list with its place among the arrays."""
        if type(value) is not np.ndarray:
            return value.item() if isinstance(value, np.generic) else value
        if id(value) not in self._places:
            self._places[id(value)] = len(self.arrays)
            self.arrays.append(self._array(value))
        return [self._places[id(value)]]

    def _array(self, array: Array) -> Any:
        form, data = _laid_out(array)
        if array.nbytes < LARGE:
            return [*form, data()]
        number, checksum = self._before.get(id(array), (-1, 0))
        if number < 0:
            number = self.next
            self.next += 1
            self.new[number] = data()
            checksum = zlib.crc32(self.new[number])
        self.large[number] = array, checksum
        return [*form, [number, checksum]]


def write(session: Session, kept: StoredArrays) -> tuple[Snapshot, StoredArrays]:
    """Serialize a session; return the snapshot and the arrays that lie beside it once it is stored.

    Args:
        session: is not changed.
        kept: arrays that lie beside its last snapshot.
    """
    writer = _Writer(kept)
    roots = session.roots()
    records = checkpoint.records(roots)
    places = iter(range(len(roots)))
    by_identity: dict[int, int] = {}
    for v in roots:
        if id(v) not in by_identity:
            by_identity[id(v)] = next(places)
    tape = [_record(record, writer) for record in records]
    held = {name: _held(item, by_identity, writer) for name, item in session.ids.items()}
    document = {
        "format": FORMAT,
        "versions": VERSIONS,
        "seed": session.seed,
        "random": _generator(session.rng),
        "nograd": session.nograd,
        "train": session.train,
        "made": session.made,
        "ids": held,
        "tape": tape,
        "arrays": writer.arrays,
        "next": writer.next,
    }
    packed = msgspec.msgpack.encode(document, enc_hook=_default)
    packed = zlib.crc32(packed).to_bytes(_CHECKSUM_BYTES) + packed
    return Snapshot(packed, writer.new, tuple(writer.large)), StoredArrays(writer.large, writer.next)


def _record(record: checkpoint.Record, writer: _Writer) -> list[Any]:
    saved = [None if raw is None else writer.value(raw) for raw in record.saved]
    attrs = None if record.attrs is None else {name: _attribute(value) for name, value in record.attrs.items()}
    data = writer.value(record.data)
    return [data, record.name, record.generation, record.grad, record.op, list(record.parents), saved, attrs]


def _held(held: SessionObject, places: Mapping[int, int], writer: _Writer) -> dict[str, Any]:
    if isinstance(held, Variable):
        return {"variable": places[id(held)]}
    if isinstance(held, Constant):
        return {"constant": writer.value(held.value), "name": held.name}
    if isinstance(held, Module):
        memories = checkpoint.memories(held.layer)
        return {
            held.group: held.kind,
            "config": held.config,
            "params": {path: places[id(p)] for path, p in held.layer.params().items()},
            "memories": {path: [places[id(v)] for v in kept] for path, kept in memories.items()},
        }
    count, state = checkpoint.steps(held.optimizer)
    return {
        "optimizer": held.kind,
        "config": held.config,
        "params": held.params,
        "hooks": held.hooks,
        "steps": count,
        "state": {name: [writer.value(value) for value in values] for name, values in state.items()},
    }


def read(document: bytes, large: Mapping[int, bytes], quotas: Quotas) -> tuple[Session, StoredArrays]:
    """Restore the session of a snapshot.

    Args:
        document: of the snapshot.
        large: arrays beside it by number.
        quotas: of the session from now on.

    Raises:
        DamagedSnapshotError: it is damaged, or of another release.
    """
    try:
        if zlib.crc32(document[_CHECKSUM_BYTES:]) != int.from_bytes(document[:_CHECKSUM_BYTES]):
            raise DamagedSnapshotError("its checksum is wrong")
        found = msgspec.msgpack.decode(document[_CHECKSUM_BYTES:])
        if found["format"] != FORMAT:
            raise DamagedSnapshotError(f"it has format {found['format']}; this release reads {FORMAT}")
        return _read(found, large, quotas)
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, msgspec.DecodeError) as error:
        raise DamagedSnapshotError(f"it does not read: {type(error).__name__}: {error}") from error


def _read(found: Any, large: Mapping[int, bytes], quotas: Quotas) -> tuple[Session, StoredArrays]:
    arrays, kept = [], StoredArrays()
    for *form, data in found["arrays"]:
        if type(data) is bytes:
            arrays.append(_from_layout(*form, data=data))
            continue
        number, checksum = data
        if zlib.crc32(large[number]) != checksum:
            raise DamagedSnapshotError(f"the checksum of its array {number} is wrong")
        arrays.append(_from_layout(*form, data=large[number]))
        kept.arrays[number] = arrays[-1], checksum
    kept.next = found["next"]

    def value(written: Any) -> Any:
        return arrays[written[0]] if type(written) is list else written

    records = [
        checkpoint.Record(
            value(data),
            name,
            generation,
            grad,
            op,
            tuple(parents),
            tuple(None if raw is None else value(raw) for raw in saved),
            None if attrs is None else {name: _as_attribute(item) for name, item in attrs.items()},
        )
        for data, name, generation, grad, op, parents, saved, attrs in found["tape"]
    ]
    variables = checkpoint.variables(records)
    session = Session(found["seed"], quotas)
    for name, item in found["ids"].items():
        session.ids[name] = _as_held(item, session, variables, value)
    session.nograd, session.train, session.made = found["nograd"], found["train"], found["made"]
    # Making the layers drew from the generator.
    session.rng.bit_generator.state = _as_generator(found["random"])
    session.check_quotas()
    return session, kept


def _as_held(item: Any, session: Session, variables: list[Variable], value: Callable[[Any], Value]) -> SessionObject:
    if "variable" in item:
        found: Variable = variables[item["variable"]]
        return found
    if "constant" in item:
        return Constant(value(item["constant"]), item["name"])
    for group, makers in MODULES.items():
        if group in item:
            layer = makers[item[group]](**item["config"], rng=session.rng)
            checkpoint.adopt(layer, {path: variables[place] for path, place in item["params"].items()})
            memories = {path: [variables[place] for place in kept] for path, kept in item["memories"].items()}
            checkpoint.recall(layer, memories)
            return Module(group, item[group], item["config"], layer)
    steps: Steps = session.optimizer(item["optimizer"], item["config"], item["params"], item["hooks"])
    state = {name: [value(one) for one in values] for name, values in item["state"].items()}
    checkpoint.resume(steps.optimizer, item["steps"], state)
    return steps


def _laid_out(array: Array) -> tuple[list[Any], Any]:
    """Return the layout of an array and a function for its bytes.

    The layout is dtype, shape and, if it is not in C order, strides and the offset of the first element.
    """
    form = [str(array.dtype), list(array.shape)]
    if array.flags.c_contiguous:
        return [*form, None, 0], array.tobytes
    low, high = np.lib.array_utils.byte_bounds(array)
    first = array.__array_interface__["data"][0] - low
    return [*form, list(array.strides), first], lambda: ctypes.string_at(low, high - low)


def _from_layout(dtype: str, shape: list[int], strides: list[int] | None, first: int, *, data: bytes) -> Array:
    return np.ndarray(tuple(shape), DTYPES[dtype], data, first, None if strides is None else tuple(strides))


def _generator(rng: np.random.Generator) -> Any:
    """Return the state of a generator; PCG64 has integers of 128 bits."""
    return _texts(rng.bit_generator.state)


def _texts(part: Any) -> Any:
    if isinstance(part, dict):
        return {key: _texts(value) for key, value in part.items()}
    return {"int": str(part)} if type(part) is int and part >= _WORD else part


def _as_generator(part: Any) -> Any:
    if isinstance(part, dict):
        return (
            int(part["int"]) if part.keys() == {"int"} else {key: _as_generator(value) for key, value in part.items()}
        )
    return part


def _attribute(value: Any) -> Any:
    """Write an attribute: tuples and arrays of integers as lists, the ellipsis of an index as a map."""
    if isinstance(value, Integers):
        return value.array.tolist()
    if isinstance(value, tuple):
        return [_attribute(item) for item in value]
    return {"...": True} if value is Ellipsis else value


def _as_attribute(value: Any) -> Any:
    if isinstance(value, list):
        return tuple(_as_attribute(item) for item in value)
    return Ellipsis if isinstance(value, dict) else value


def _default(value: Any) -> Any:
    """Convert a scalar of NumPy in an attribute."""
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"{type(value).__name__} has no place in a snapshot")
