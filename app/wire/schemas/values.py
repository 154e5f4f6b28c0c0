"""JSON Schemas of values and declarations, in any of their forms, for OpenAPI."""

from typing import Annotated, Any

from pydantic import WithJsonSchema

SCHEMAS = "#/components/schemas/"
#: Placeholder for `$ref` to a schema that is not a model's: pydantic would look for it among its own.
REF = "x-ref"
#: A value in any of its forms: `VALUE` is its schema, `app.wire.values.decode` decodes it.
Value = Annotated[Any, WithJsonSchema({REF: f"{SCHEMAS}Value"})]
ValueOrAval = Annotated[Any, WithJsonSchema({"anyOf": [{REF: f"{SCHEMAS}Value"}, {REF: f"{SCHEMAS}Aval"}]})]
DTYPES = {"type": "string", "enum": ["float64", "float32", "int64", "bool"]}
SHAPE = {"type": "array", "items": {"type": "integer", "minimum": 0}}
VALUE: dict[str, Any] = {
    "description": "A number, a boolean, a word for a number that is not finite, nested lists, or an array object.",
    "anyOf": [
        {"type": ["number", "boolean"]},
        {"enum": ["NaN", "Infinity", "-Infinity"]},
        {"type": "array", "items": {"$ref": f"{SCHEMAS}Value"}},
        {"$ref": f"{SCHEMAS}ArrayObject"},
    ],
}
ARRAY_OBJECT: dict[str, Any] = {
    "description": "An array with its dtype: `data` flat in C order, or `base64` of its little-endian bytes. "
    "In MessagePack `data` may be these bytes themselves, as binary data.",
    "type": "object",
    "required": ["shape", "dtype"],
    "properties": {
        "shape": SHAPE,
        "dtype": DTYPES,
        "data": {"type": "array", "items": {"$ref": f"{SCHEMAS}Value"}},
        "base64": {"type": "string", "contentEncoding": "base64"},
    },
    "oneOf": [{"required": ["data"]}, {"required": ["base64"]}],
    "additionalProperties": False,
}
AVAL: dict[str, Any] = {
    "description": "The shape and dtype of a value, in place of the value.",
    "type": "object",
    "required": ["shape"],
    "properties": {"shape": SHAPE, "dtype": {**DTYPES, "default": "float64"}},
    "additionalProperties": False,
}
DECLARATION: dict[str, Any] = {
    "description": "Declaration of an input: its shape, with -1 or null for a free length, and its dtype.",
    "type": "object",
    "properties": {
        "shape": {
            "anyOf": [
                {"type": "array", "items": {"anyOf": [{"type": "integer", "minimum": -1}, {"type": "null"}]}},
                {"type": "null"},
            ]
        },
        "dtype": {"anyOf": [DTYPES, {"type": "null"}]},
    },
    "additionalProperties": False,
}
