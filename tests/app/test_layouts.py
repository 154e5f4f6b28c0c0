"""Layouts in memory: values travel by what they hold, however they lie."""

import json
from typing import Any

import numpy as np
import pytest

from app.sessions import snapshot
from app.wire import codecs, values
from app.wire.media import JSON, MSGPACK
from engine.core.values import DTYPES
from engine.programs.literals import decode_value
from pullback.nn import tensorfile
from pullback.recording.constants import content_of
from pullback.remote import documents
from tests.layouts import LAYOUTS

SHAPES = [(), (1,), (5,), (0,), (2, 3), (3, 1, 4), (2, 0, 3)]
ENCODINGS = [(JSON, "nested"), (JSON, "flat"), (JSON, "base64"), *((MSGPACK, e) for e in ("nested", "flat", "binary"))]


def arrays() -> Any:
    """Each layout of arrays of each dtype, beside the same in C order."""
    rng = np.random.default_rng(3)
    for dtype in DTYPES.values():
        for shape in SHAPES:
            x = rng.integers(-4, 5, shape).astype(dtype)
            kinds = [x, np.where(x > 2, np.inf, np.where(x < -2, np.nan, x))] if dtype.kind == "f" else [x]
            for name, lay in LAYOUTS.items():
                for each in kinds:
                    given = lay(np.array(each, dtype)) if shape else np.array(each, dtype)
                    yield f"{name} {dtype}{list(shape)}", given, np.array(given, dtype, order="C")


def is_same(found: Any, expected: Any) -> bool:
    return found.dtype == expected.dtype and np.array_equal(found, expected, equal_nan=expected.dtype.kind == "f")


@pytest.mark.parametrize(("media", "encoding"), ENCODINGS)
def test_answers_hold_what_the_value_does(media: str, encoding: str) -> None:
    failures = []
    for case, given, expected in arrays():
        if given.dtype.isnative:  # raw values are
            body = codecs.encode(media, values.encode(given, encoding, media))
            if body != codecs.encode(media, values.encode(expected, encoding, media)):
                failures.append(f"{case}: other bytes")
            found = np.asarray(decode_value(codecs.decode(media, body, 100), dtype=expected.dtype).value)
            if expected.size and not is_same(found, expected):
                failures.append(f"{case}: {found}")
    assert failures == []


def test_documents_of_the_client_hold_what_the_array_does() -> None:
    failures = []
    for case, given, expected in arrays():
        for media in (JSON, MSGPACK):
            body = documents.encode({"x": given}, media)
            found = codecs.decode(media, body, 100)["x"]
            if not is_same(np.asarray(decode_value(found, dtype=expected.dtype).value), expected):
                failures.append(f"{case} {media}: {found}")
        if content_of(given.astype(given.dtype.newbyteorder("="), copy=False)) != content_of(expected):
            failures.append(f"{case}: other content")
        if not is_same(tensorfile.read(tensorfile.write({"x": given}))["x"], expected):
            failures.append(f"{case}: other file")
    assert failures == []


def test_snapshots_keep_content_and_order() -> None:
    failures = []
    for case, given, expected in arrays():
        if given.dtype.isnative:
            form, read = snapshot._laid_out(given)
            found = snapshot._from_layout(*json.loads(json.dumps(form)), data=read())
            if not is_same(found, expected) or (given.size > 1 and found.strides != given.strides):
                failures.append(f"{case}: {found}")
    assert failures == []
