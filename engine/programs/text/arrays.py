"""`array([1, 2], dtype="float32")` in infix text: a constant of a fixed dtype.

With a shape it is an array object like those of documents: `array([], shape=[0, 3])`, or
`array("AACAPwAAAEA=", dtype="float32", shape=[2])` for bytes in base64.
"""

from typing import Any

from engine.core import DTYPES, ArityError, BadAttributeError, InvalidValueError, nearest
from engine.graph import Literal
from engine.programs.builder import GraphBuilder, Mixed, Ref, Site
from engine.programs.literals import decode_value, described, strong_value

_PARAMETERS = ("value", "dtype", "shape")


def typed_array(builder: GraphBuilder, args: list[Any], keywords: dict[str, Any], site: Site) -> Literal:
    """Return the constant that `array(...)` denotes; record faults and return a placeholder if it is not valid."""
    try:
        return _typed(_bound(args, keywords))
    except (ArityError, BadAttributeError, InvalidValueError) as error:
        builder.fault(type(error), f"array: {error.detail}", site)
    return Literal(0.0, is_weak=False)


def _bound(args: list[Any], keywords: dict[str, Any]) -> dict[str, Any]:
    given = dict(zip(_PARAMETERS, args, strict=False))
    for key, value in keywords.items():
        if key not in _PARAMETERS:
            near = nearest(key, list(_PARAMETERS)) or " (it has dtype and shape)"
            raise BadAttributeError(f'unknown attribute "{key}"{near}')
        if key in given:
            raise BadAttributeError(f'attribute "{key}" is given twice')
        given[key] = value
    if "value" not in given or len(args) > len(_PARAMETERS):
        raise ArityError(f"got {len(args) + len(keywords)} arguments; expected array(value, dtype=None, shape=None)")
    return given


def _typed(given: dict[str, Any]) -> Literal:
    value, dtype = given["value"], given.get("dtype")
    if dtype is not None and (not isinstance(dtype, str) or dtype not in DTYPES):
        raise BadAttributeError(f"attribute dtype is {described(dtype)}; expected one of {', '.join(DTYPES)}")
    if isinstance(value, Ref | Mixed | Literal):
        raise InvalidValueError("it holds literals only; stack([...]) joins values")
    shape = given.get("shape")
    if shape is not None:
        data = "base64" if isinstance(value, str) else "data"
        return decode_value({"shape": shape, "dtype": "float64" if dtype is None else dtype, data: value})
    return Literal(strong_value(decode_value(value, dtype=DTYPES.get(dtype or ""))), is_weak=False)
