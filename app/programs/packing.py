"""Programs packed for a store and unpacked; all is checked, for a disk may return other bytes than were written."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson

from app.programs.limits import ProgramLimits
from app.stores import Binding, Program, damaged
from engine.core import DTYPES, FLOAT64, AutogradError, Aval, LimitExceededError, Value, canonical, stand_in
from engine.graph import Graph, Limits
from engine.plans import Cost
from engine.programs import as_document, bind, build, declaration, prepare, program_id

_SUMMARY = ("inputs", "outputs", "nodes", "cost")
_UNDECLARED: dict[str, Any] = {"shape": None, "dtype": None}


def pack(graph: Graph, name: str | None, limits: Limits) -> tuple[Program, dict[str, bytes]]:
    """Pack a graph for the store; return it with the bytes of its bound arrays by digest. `limits` are for its cost."""
    bound, blobs = {}, {}
    for key, value in graph.bound.items():
        bound[key], data = _packed(value)
        blobs[bound[key].digest] = data
    return Program(
        program_id(graph), written(graph), orjson.dumps(_summary(graph, limits)).decode(), bound, name
    ), blobs


def unpack(program: Program, blobs: Mapping[str, bytes], limits: ProgramLimits) -> Graph:
    """Unpack a graph; `blobs` has the bytes of its bound arrays by digest.

    Raises:
        StoreUnavailableError: it is damaged.
        LimitExceededError: it is deeper or larger than is allowed now.
    """
    try:
        graph = build(orjson.loads(program.document), **limits.form())
        values = {name: _unpacked(binding, blobs[binding.digest]) for name, binding in program.bound.items()}
        graph = bind(graph, values) if values else graph
    except LimitExceededError:
        raise
    except (AutogradError, ValueError, TypeError) as error:
        raise damaged(program.id, error) from error
    found = program_id(graph)
    if found != program.id:
        raise damaged(program.id, f"its content is that of {found}")
    return graph


def written(graph: Graph) -> str:
    """Write the canonical form of a graph as JSON."""
    # orjson writes nothing that is nested deeper than 254 levels.
    return json.dumps(as_document(graph), separators=(",", ":"), allow_nan=False)


def summary(text: str) -> dict[str, Any]:
    """Parse the summary of a program, as lists show it; all fields are None if it is damaged."""
    try:
        found = orjson.loads(text)
    except orjson.JSONDecodeError:
        found = None
    return found if isinstance(found, dict) and found.keys() == set(_SUMMARY) else dict.fromkeys(_SUMMARY)


def check_summary(program: Program) -> None:
    """Check that the summary of a program can be read.

    Raises:
        StoreUnavailableError: it is damaged.
    """
    if summary(program.summary)["inputs"] is None:
        raise damaged(program.id, "its summary cannot be read")


def _summary(graph: Graph, limits: Limits) -> dict[str, Any]:
    cost = _cost(graph, limits)
    return {
        "inputs": {i.name: _UNDECLARED | declaration(i) for i in graph.inputs},
        "outputs": [output.name for output in graph.outputs],
        "nodes": len(graph.nodes),
        "cost": None if cost is None else {"nodes": cost.nodes, "bytes": cost.bytes, "flops": cost.flops},
    }


def _cost(graph: Graph, limits: Limits) -> Cost | None:
    """Estimate the cost: inputs without a shape count as scalars, free lengths as 1.

    Returns None if the program fits no such inputs, or is beyond the limits.
    """
    inputs = {
        i.name: stand_in(Aval(tuple(1 if n is None else n for n in i.shape or ()), i.dtype or FLOAT64))
        for i in graph.inputs
    }
    allowed = Limits(limits.max_nodes, limits.max_elements)
    try:
        return prepare(graph, inputs, limits=allowed).cost
    except AutogradError:
        return None


def _packed(value: Value) -> tuple[Binding, bytes]:
    """Return a value's binding and its bytes, in C order and little-endian."""
    array: npt.NDArray[Any] = np.asarray(value)
    data = array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes()
    return Binding(_digest(data), str(array.dtype), array.shape), data


def _unpacked(binding: Binding, data: bytes) -> Value:
    """Return the value of a binding.

    Raises:
        ValueError, TypeError: the bytes do not match its digest, dtype or shape.
    """
    if _digest(data) != binding.digest:
        raise ValueError(f"a bound array has not the digest {binding.digest}")
    if binding.dtype not in DTYPES:
        raise ValueError(f"a bound array has the dtype {binding.dtype}")
    dtype = DTYPES[binding.dtype]
    array = np.frombuffer(data, dtype.newbyteorder("<")).reshape(binding.shape).astype(dtype)
    array.flags.writeable = False
    return canonical(array)


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
