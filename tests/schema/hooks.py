"""MessagePack for schemathesis, which checks documents as if they were JSON."""

import base64
import math
from typing import Any

import msgpack
import schemathesis

MSGPACK = "application/msgpack"


@schemathesis.serializer(MSGPACK)
def packed(_: schemathesis.SerializationContext, value: Any) -> bytes:
    """Write a body; bytes are sent as they are, and an integer beyond 64 bits, which MessagePack has not, as text."""
    if isinstance(value, bytes):
        return value
    content: bytes = msgpack.packb(value, default=str)
    return content


@schemathesis.deserializer(MSGPACK)
def unpacked(_: schemathesis.DeserializationContext, response: schemathesis.Response) -> Any:
    """Read a response; what JSON has no form for becomes what stands for it in JSON."""
    return _as_json(msgpack.unpackb(response.content))


def _as_json(value: Any) -> Any:
    if isinstance(value, dict):
        if isinstance(data := value.get("data"), bytes):
            value = {**value, "base64": base64.b64encode(data).decode()}
            del value["data"]
        return {key: _as_json(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_as_json(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return value
