"""Declarations of inputs: name -> {"shape", "dtype"}, both optional or null; and checks of values against them."""

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from engine.core import DTYPES, MAX_AXES, Aval, DType, Faults, InvalidValueError, listed, nearest
from engine.graph import Graph, Input, quoted
from engine.programs.builder import GraphBuilder, Site
from engine.programs.literals import described


def declare(builder: GraphBuilder, declarations: object, site: Site) -> None:
    """Add the declared inputs to a program; record errors in the declarations as faults."""
    if not isinstance(declarations, dict):
        return builder.fault(InvalidValueError, f"inputs is {described(declarations)}; expected an object", site)
    for given, fields in declarations.items():
        input_site = site.part(str(given))._replace(where=f"input {quoted(given)}")
        name = builder.name(given, input_site)
        if name in builder.inputs:
            builder.fault(InvalidValueError, "this name is declared twice", input_site)
        elif name is not None and builder.check_fields(fields, ("shape", "dtype"), input_site):
            builder.inputs[name] = Input(name, _shape(builder, fields, input_site), _dtype(builder, fields, input_site))
    return None


def declare_further(graph: Graph, declarations: Mapping[str, Any]) -> Graph:
    """Return the program with further declarations of its inputs, added to those that it has.

    Raises:
        InvalidValueError: the program has no such input, or declares it differently.
    """
    faults = Faults()
    builder = GraphBuilder(faults, max_nodes=0)
    declare(builder, dict(declarations), Site(("inputs",), "", has_parts=True))
    known = {i.name: i for i in graph.inputs}
    for name, given in builder.inputs.items():
        if name not in known:
            msg = f"the program has no input {quoted(name)}{other_inputs(name, known)}"
            faults.add(InvalidValueError, msg, ("inputs", name))
            continue
        own = known[name]
        known[name] = both = Input(name, own.shape if given.shape is None else given.shape, own.dtype or given.dtype)
        if own.shape not in (None, both.shape) or given.dtype not in (None, both.dtype):
            msg = f"input {quoted(name)} is declared already, as {json.dumps(declaration(own))}"
            faults.add(InvalidValueError, msg, ("inputs", name))
    faults.check()
    return replace(graph, inputs=tuple(known.values()))


def other_inputs(name: str, inputs: Mapping[str, Input]) -> str:
    """Return the inputs whose names are near to an unknown one, otherwise all of them, for a message."""
    return nearest(name, inputs) or f"; it has {listed(list(inputs)) or 'no inputs'}"


def misfit(declared: Input, known: Aval, is_batched: bool = False) -> str:
    """Explain why a value of this shape and dtype cannot bind to the input; empty if it can.

    is_batched: the leading axis of the value is a batch, which a declaration does not count.
    """
    shape = known.shape[is_batched:]
    if declared.shape is not None and not _fits(shape, declared.shape):
        given = f"{list(shape)} a row" if is_batched else list(shape)
        return f'input "{declared.name}" has shape {given}; declared {_written(declared.shape)}'
    if declared.dtype is not None and known.dtype != declared.dtype:
        return f'input "{declared.name}" has dtype {known.dtype}; declared {declared.dtype}'
    return ""


def declaration(declared: Input) -> dict[str, Any]:
    """Return the declaration of an input in the form of documents.

    >>> declaration(Input("x", (None, 3), DTYPES["float32"]))
    {'shape': [-1, 3], 'dtype': 'float32'}
    """
    shape = {} if declared.shape is None else {"shape": _written(declared.shape)}
    return shape if declared.dtype is None else {**shape, "dtype": str(declared.dtype)}


def _fits(shape: tuple[int, ...], declared: tuple[int | None, ...]) -> bool:
    return len(shape) == len(declared) and all(d in (None, n) for n, d in zip(shape, declared, strict=True))


def _written(shape: tuple[int | None, ...]) -> list[int]:
    return [-1 if length is None else length for length in shape]


def _shape(builder: GraphBuilder, fields: dict[str, Any], site: Site) -> tuple[int | None, ...] | None:
    if fields.get("shape") is None:
        return None
    shape, shape_site = fields["shape"], site.part("shape")
    if not isinstance(shape, list) or len(shape) > MAX_AXES:
        expected = f"expected a list of {MAX_AXES} lengths at most"
        builder.fault(InvalidValueError, f"shape is {described(shape)}; {expected}", shape_site)
        return None
    for axis, length in enumerate(shape):
        if length is not None and (type(length) is not int or not -1 <= length < 2**63):
            msg = f"length {described(length)} of axis {axis}; expected an integer from 0, or -1 or null for a free one"
            builder.fault(InvalidValueError, msg, shape_site.part(axis))
    return tuple(None if length == -1 else length for length in shape)


def _dtype(builder: GraphBuilder, fields: dict[str, Any], site: Site) -> DType | None:
    if fields.get("dtype") is None:
        return None
    dtype = fields["dtype"]
    if isinstance(dtype, str) and dtype in DTYPES:
        return DTYPES[dtype]
    msg = f"unknown dtype {described(dtype)}; expected one of {', '.join(DTYPES)}"
    builder.fault(InvalidValueError, msg, site.part("dtype"))
    return None
