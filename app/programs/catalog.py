"""Documents that describe operations and the kinds of layers, models, optimizers and hooks."""

import inspect
import math
import re
from collections.abc import Mapping
from typing import Any

from engine.core import OPERATIONS, REQUIRED, SIZES, Attribute, Operation, rows
from engine.nn import HOOKS, LAYERS, MODELS, OPTIMIZERS

_KINDS: Mapping[str, Mapping[str, Any]] = {
    "layers": LAYERS,
    "models": MODELS,
    "optimizers": OPTIMIZERS,
    "hooks": HOOKS,
}


def describe_all() -> dict[str, Any]:
    """Describe every operation and every kind."""
    kinds = {
        group: [{"kind": kind, "doc": _first_line(maker), "config": _config(maker)} for kind, maker in makers.items()]
        for group, makers in _KINDS.items()
    }
    return {"operations": [describe(op) for op in rows()], "kinds": kinds}


def describe(op: Operation) -> dict[str, Any]:
    """Describe one operation: names, operands, attributes, properties."""
    return {
        "name": op.name,
        "aliases": [*op.aliases, *sorted({row.name for row in OPERATIONS.values() if row.alias_of == op.name})],
        "alias_of": op.alias_of or None,
        "symbol": op.symbol or None,
        "signature": op.signature(),
        "doc": op.doc,
        "operands": [{"name": name, "required": place < op.required} for place, name in enumerate(op.operands)],
        "variadic": op.variadic,
        "attributes": [_attribute(attribute) for attribute in op.attributes],
        "kind": op.kind,
        "several_outputs": op.outputs is not None,
        "outputs": _outputs(op),
        "differentiable": op.is_differentiable,
        "batched": runs_at_once(op),
        "random": op.random,
    }


def _outputs(op: Operation) -> int | str:
    """Return the number of results, or the name of the attribute that decides it (a number, or a list as long)."""
    if op.outputs is None:
        return 1
    return next((a.name for a in op.attributes if a.type is SIZES), None) or op.outputs()


def runs_at_once(op: Operation) -> bool:
    """Return whether an operation runs for all rows of a batch at once, not row by row (`engine.tracers.batching`)."""
    return not op.random and (op.body is not None or op.batch is not None or op.kind == "linear")


def _attribute(attribute: Attribute) -> dict[str, Any]:
    document = {
        "name": attribute.name,
        "spellings": list(attribute.spellings),
        "type": attribute.type.name,
        "expected": attribute.type.expected,
        "required": attribute.default is REQUIRED,
    }
    return document if attribute.default is REQUIRED else document | {"default": _default(attribute.default)}


def _default(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return list(value) if isinstance(value, tuple) else value


def configuration(maker: Any) -> dict[str, bool]:
    """Return the keys of a kind's configuration, each with whether it is required."""
    return {document["name"]: document["required"] for document in _config(maker)}


def _config(maker: Any) -> list[dict[str, Any]]:
    """Describe the arguments of a constructor, except those that a session passes (parameters, generator)."""
    found = []
    for parameter in inspect.signature(maker).parameters.values():
        if parameter.name == "params" or parameter.kind is parameter.KEYWORD_ONLY:
            continue
        required = parameter.default is parameter.empty
        document = {"name": parameter.name, "type": _type(parameter.annotation), "required": required}
        found.append(document if required else document | {"default": parameter.default})
    return found


def _type(annotation: Any) -> str:
    """Return an annotation as it is written, without functions, which a document cannot hold."""
    return re.sub(r" \| Callable\[.*\]", "", inspect.formatannotation(annotation).replace("collections.abc.", ""))


def _first_line(maker: Any) -> str:
    return (inspect.getdoc(maker) or "").partition("\n")[0]
