"""MessagePack: the same documents as in JSON, both ways, and what only MessagePack can get wrong."""

from __future__ import annotations

import json
import math
import re
import struct
from typing import TYPE_CHECKING, Any

import httpx
import msgpack
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.wire.document import MalformedBodyError
from app.wire.msgpack import decode, encode
from engine.core.errors import LimitExceededError
from engine.programs.literals import decode_value
from tests.app.calls import sendable
from tests.app.conftest import ROOT, strict_json
from tests.app.test_contract import example_requests
from tests.app.test_fuzz import bounded
from tests.app.test_malformed import CASES, JSON_TYPE, STATUS, Case
from tests.engine.programs import PROGRAMS, Program

if TYPE_CHECKING:
    from tests.app.conftest import Server

MSGPACK = "application/msgpack"
MSGPACK_TYPE = {"Content-Type": MSGPACK}
MAX_DEPTH = 100
WORDS = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}
QUICKSTART = {"expr": "square(exp(square(x)))", "inputs": {"x": 0.5}, "backward": True}


def post(server: Server, path: str, document: Any, **headers: str) -> httpx.Response:
    """The answer to a document, sent by another implementation than the server's."""
    return server.client.post(path, content=msgpack.packb(document), headers={**MSGPACK_TYPE, **headers})


def read(response: httpx.Response) -> Any:
    """The document of an answer, whose media type has to be MessagePack."""
    assert response.headers["content-type"] == MSGPACK
    return msgpack.unpackb(response.content)


def ask(server: Server, path: str, document: Any) -> Any:
    response = post(server, path, document)
    assert response.is_success, response.content
    return read(response)


def binary(document: Any) -> Any:
    """`document` with every array in it as an array object of little-endian bytes."""
    match document:
        case dict():
            return {key: binary(item) for key, item in document.items()}
        case list() | tuple():
            return [binary(item) for item in document]
        case np.ndarray():
            little = document.astype(document.dtype.newbyteorder("<"))
            return {"shape": list(document.shape), "dtype": str(document.dtype), "data": little.tobytes()}
    return document


def unified(document: Any) -> Any:
    """`document` with numbers for their words, and base64 where binary data is."""
    match document:
        case {"shape": _, "dtype": name, "data": bytes(data)}:
            array = np.frombuffer(data, np.dtype(name).newbyteorder("<"))
            return sendable(array.astype(name).reshape(document["shape"]))
        case dict():
            return {key: unified(item) for key, item in document.items()}
        case list():
            return [unified(item) for item in document]
        case str():
            return WORDS.get(document, document)
    return document


def assert_same(packed: Any, written: Any) -> None:
    """The same documents, numbers to the last bit and of the same type; NaN is NaN."""
    assert json.dumps(unified(packed), sort_keys=True) == json.dumps(unified(written), sort_keys=True)


# The same answers


@pytest.mark.sampled(one_in=4)
@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.name)
def test_programs_are_answered_as_in_json(server: Server, program: Program) -> None:
    cotangents = {name: np.ones(np.shape(x)) for name, x in program(program.inputs).items()}
    for path, fields in (
        ("/v1/evaluate", {"outputs": "all"}),
        ("/v1/vjp", {"cotangents": cotangents}),
        ("/v1/infer", {}),
    ):
        request = {"expr": program.text, "inputs": dict(program.inputs), **fields}
        for encoding, written in (("binary", "base64"), ("base64", "base64"), ("flat", "flat"), ("nested", "nested")):
            packed = post(server, path, {**binary(request), "encoding": encoding})
            other = server.client.post(path, json={**sendable(request), "encoding": written})
            assert packed.status_code == other.status_code
            if other.is_success:
                assert_same(read(packed), strict_json(other.content))


def test_examples_are_answered_as_in_json(server: Server) -> None:
    document = server.client.get("/openapi.json").json()
    # Some examples name programs that others register; some delete them.
    found = sorted(example_requests(document), key=lambda example: example[:2] != ("POST", "/v1/programs"))
    for method, path, media_type, body in found:
        if method == "DELETE" or path in ("/openapi.json", "/metrics", "/v1/sessions") or "/dot" in path:
            continue
        content = {"content": msgpack.packb(body), "headers": MSGPACK_TYPE} if media_type else {}
        packed = server.client.request(method, path, **content) if media_type else None
        packed = packed or server.client.request(method, path, headers={"Accept": MSGPACK})
        other = server.client.request(method, path, json=body) if media_type else server.client.request(method, path)
        assert packed.is_success and other.is_success
        assert_same(read(packed), other.json())


@pytest.mark.parametrize("request_in", ["json", "msgpack"])
@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        (None, "own"),
        ("*/*", "own"),
        ("application/*", "own"),
        ("text/html, */*;q=0.1", "own"),
        ("application/msgpack", MSGPACK),
        ("application/json", "application/json"),
        ("application/msgpack;q=0.4, application/json;q=0.5", "application/json"),
        ("application/msgpack;q=0.5, application/json;q=0.4", MSGPACK),
        ("application/json;q=0, */*", MSGPACK),
        ("APPLICATION/MSGPACK", MSGPACK),
    ],
)
def test_accept_decides(server: Server, request_in: str, accept: str | None, expected: str) -> None:
    own = MSGPACK if request_in == "msgpack" else "application/json"
    content = msgpack.packb(QUICKSTART) if own == MSGPACK else json.dumps(QUICKSTART).encode()
    request = server.client.build_request("POST", "/v1/evaluate", content=content, headers={"Content-Type": own})
    del request.headers["accept"]
    if accept is not None:
        request.headers["accept"] = accept
    response = server.client.send(request)
    wanted = own if expected == "own" else expected
    assert response.headers["content-type"] == wanted
    answer = msgpack.unpackb(response.content) if wanted == MSGPACK else response.json()
    assert answer["grads"] == {"x": 3.297442541400256}


def test_a_program_registered_in_one_form_is_the_same_in_the_other(server: Server) -> None:
    x = np.arange(6.0).reshape(2, 3)
    request = {"expr": "sum((X @ w)**2)", "bind": {"X": x}}
    first = post(server, "/v1/programs", binary(request))
    again = server.client.post("/v1/programs", json=sendable(request))
    assert (first.status_code, again.status_code) == (201, 200)
    assert read(first) == again.json()
    answer = ask(server, "/v1/evaluate", {"program": again.json()["id"], "inputs": {"w": [1, 0, 2]}, "backward": True})
    assert answer["values"] == {"out": 16.0 + 13.0**2}
    assert answer["grads"] == {"w": (2 * x.T @ x @ [1, 0, 2]).tolist()}
    shown = server.client.get(first.headers["location"], headers={"Accept": MSGPACK})
    assert_same(read(shown), server.client.get(first.headers["location"]).json())


# Problems


def repacked(refused: Case) -> bytes | None:
    """The body of a case as MessagePack, where its mistake is not one of JSON's own."""
    try:
        return None if refused.slug == "malformed-body" else msgpack.packb(json.loads(refused.body or b""))
    except (ValueError, RecursionError, OverflowError):
        return None


REFUSED = [refused for refused in CASES if refused.headers == JSON_TYPE and repacked(refused)]


@pytest.mark.sampled(one_in=3)
@pytest.mark.parametrize("refused", REFUSED, ids=[refused.title[:60] for refused in REFUSED])
def test_problems_are_the_same(server: Server, refused: Case) -> None:
    request_id = {"X-Request-ID": "test-msgpack"}
    packed_type = {**MSGPACK_TYPE, "Accept": MSGPACK, **request_id}
    packed = server.client.request(refused.method, refused.path, content=repacked(refused), headers=packed_type)
    written = server.client.request(
        refused.method, refused.path, content=refused.body, headers={**refused.headers, **request_id}
    )
    assert packed.status_code == STATUS[refused.slug]
    assert read(packed) == written.json()


@pytest.mark.parametrize("accept", ["*/*", "application/msgpack, application/problem+json", "application/json"])
def test_problems_are_json_unless_msgpack_alone_is_accepted(server: Server, accept: str) -> None:
    response = post(server, "/v1/evaluate", {"expr": "sine(x)"}, Accept=accept)
    assert response.status_code == 422
    assert response.headers["content-type"] == "application/problem+json"
    assert response.json()["type"] == "/problems/unknown-op"


def test_binary_answers_in_json_are_refused(server: Server) -> None:
    document = {**QUICKSTART, "encoding": "binary"}
    for response in (
        server.client.post("/v1/evaluate", json=document),
        post(server, "/v1/evaluate", document, Accept="application/json"),
        server.client.post("/v1/infer", json=document),
    ):
        assert response.status_code == 422
        assert response.json()["errors"][0]["loc"] == ["encoding"]
        assert "base64" in response.json()["detail"]
    taken = server.client.post("/v1/evaluate", json=document, headers={"Accept": MSGPACK})
    assert read(taken)["grads"]["x"]["data"] == struct.pack("<d", 3.297442541400256)


# Values


@pytest.mark.parametrize("encoding", ["nested", "flat", "binary"])
def test_numbers_that_are_not_finite_are_floats(server: Server, encoding: str) -> None:
    given_value = {"shape": [4], "dtype": "float64", "data": struct.pack("<4d", math.nan, math.inf, -math.inf, -0.0)}
    for value in ([math.nan, math.inf, -math.inf, -0.0], ["NaN", "Infinity", "-Infinity", -0.0], given_value):
        found = ask(server, "/v1/evaluate", {"expr": "x", "inputs": {"x": value}, "encoding": encoding})["values"]["x"]
        found = found["data"] if isinstance(found, dict) else found
        found = found if isinstance(found, bytes) else struct.pack("<4d", *found)
        np.testing.assert_array_equal(np.frombuffer(found), [math.nan, math.inf, -math.inf, -0.0])
    assert math.isnan(ask(server, "/v1/evaluate", {"expr": "x", "inputs": {"x": math.nan}})["values"]["x"])


@pytest.mark.parametrize(
    "packed",
    [b"\x03", b"\xca" + struct.pack(">f", 3), b"\xcb" + struct.pack(">d", 3), b"\xd3" + struct.pack(">q", 3)],
    ids=["fixint", "float 32", "float 64", "int 64"],
)
def test_a_number_is_a_float_however_it_is_written(server: Server, packed: bytes) -> None:
    body = b"\x82" + msgpack.packb("expr") + msgpack.packb("x / 2") + msgpack.packb("inputs") + b"\x81\xa1x" + packed
    answer = read(server.client.post("/v1/evaluate", content=body, headers=MSGPACK_TYPE))
    assert answer["values"] == {"out": 1.5}


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ({"shape": [2], "dtype": "float64", "data": b"1234567"}, "data holds 7 bytes"),
        ({"shape": [2], "dtype": "bool", "data": b"\x01\x02"}, "other than 0 and 1"),
        ({"shape": [1], "dtype": "float64", "base64": b"AAAAAAAA8D8="}, "base64 is bytes"),
        ({"shape": [1], "dtype": "float64", "data": "12345678"}, "expected a flat list"),
        (b"12345678", "bytes"),
        ([1.0, b"12345678"], "bytes at index [1]"),
    ],
    ids=["too short", "bad bools", "binary base64", "text for data", "binary value", "binary element"],
)
def test_binary_data_in_the_wrong_place(server: Server, value: Any, words: str) -> None:
    response = post(server, "/v1/evaluate", {"expr": "x", "inputs": {"x": value}})
    assert response.status_code == 422
    assert words in response.json()["detail"]


# The reader, beside another implementation

leaves = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.integers(-200, 200)
    | st.floats()
    | st.text(max_size=40)
    | st.binary(max_size=40)
)
numbers = st.lists(st.floats() | st.integers(-40, 300), max_size=40) | st.lists(st.integers(-32, 127), max_size=40)
documents = st.recursive(
    leaves | numbers,
    lambda inner: st.lists(inner, max_size=20) | st.dictionaries(st.text(max_size=5), inner, max_size=20),
    max_leaves=40,
)


@given(document=documents)
@bounded
def test_reads_what_another_implementation_writes(document: Any) -> None:
    body = msgpack.packb(document)
    assert msgpack.packb(decode(body, MAX_DEPTH)) == body


@given(document=documents)
@bounded
def test_another_implementation_reads_what_is_written(document: Any) -> None:
    assert msgpack.packb(msgpack.unpackb(encode(document))) == msgpack.packb(document)


def strictly(body: bytes) -> Any:
    """The document of a body by another implementation; raises ValueError where this server has to refuse it."""

    def check(pairs: list[tuple[Any, Any]]) -> dict[Any, Any]:
        keys = [key for key, _ in pairs]
        if any(type(key) is not str for key in keys) or len(set(keys)) < len(keys):
            raise ValueError("a key that is no text, or twice the same")
        return dict(pairs)

    def refuse(code: int, data: bytes) -> Any:
        raise ValueError("an extension")

    def check_times(part: Any) -> None:
        if isinstance(part, msgpack.Timestamp):
            raise ValueError("a timestamp, which no hook sees")
        for item in part.values() if isinstance(part, dict) else part if isinstance(part, list) else ():
            check_times(item)

    found = msgpack.unpackb(body, object_pairs_hook=check, ext_hook=refuse)
    check_times(found)
    return found


@given(
    document=documents,
    changes=st.lists(st.tuples(st.integers(0), st.binary(max_size=2), st.integers(0, 2)), max_size=3),
    max_items=st.sampled_from([math.inf, 10**6]),
)
@bounded
def test_refuses_what_another_implementation_refuses(
    document: Any, changes: list[tuple[int, bytes, int]], max_items: float
) -> None:
    body = msgpack.packb(document)
    for place, new, dropped in changes:
        start = place % (len(body) + 1)
        body = body[:start] + new + body[start + dropped :]
    try:
        expected = strictly(body)
    except (ValueError, TypeError):
        with pytest.raises(MalformedBodyError):
            decode(body, MAX_DEPTH, math.inf, max_items)
    else:
        assert msgpack.packb(decode(body, MAX_DEPTH, math.inf, max_items)) == msgpack.packb(expected)


@pytest.mark.parametrize("dtype", ["float64", "float32", "int64", "bool"])
@pytest.mark.parametrize("shape", [(3,), (0,), (2, 0, 3), (20, 3), (400, 3), (2, 70_000), (1, 1, 20, 40)], ids=str)
def test_arrays_are_written_as_lists(shape: tuple[int, ...], dtype: str) -> None:
    array = np.random.default_rng(0).integers(0, 1000, shape).astype(dtype)
    for view in (array, array[::-1], array.T):
        found = msgpack.unpackb(encode(view))
        assert found == view.tolist()
        assert decode(encode(view), MAX_DEPTH) == found


@pytest.mark.parametrize("item", [0, -33, 200, -(2**31), 2**63, 0.5, None, "text", b"bytes", [1.5]], ids=repr)
@pytest.mark.parametrize("place", [0, 7, 39])
def test_an_odd_item_in_a_run_of_numbers(item: Any, place: int) -> None:
    for run in ([float(i) for i in range(40)], list(range(40)), [300 + i for i in range(40)]):
        document = [*run[:place], item, *run[place + 1 :]]
        assert decode(msgpack.packb(document), MAX_DEPTH) == document


@pytest.mark.parametrize("offset", range(8))
def test_binary_data_is_copied_only_where_it_lies_askew(offset: int) -> None:
    array = {"shape": [4], "dtype": "float64", "data": np.arange(4.0).tobytes()}
    body = msgpack.packb({"pad": "x" * (8 + offset), "x": array})
    found = decode_value(decode(body, MAX_DEPTH)["x"]).value
    whole = np.frombuffer(body, np.uint8)
    askew = (whole.ctypes.data + body.index(array["data"])) % 8
    assert np.shares_memory(found, whole) == (askew == 0)
    assert found.tolist() == [0, 1, 2, 3]
    assert found.flags.aligned and not found.flags.writeable


def test_a_short_part_does_not_keep_the_whole_body() -> None:
    document = {"short": bytes(1000), "long": bytes(1_000_000)}
    found = decode(msgpack.packb(document), MAX_DEPTH)
    assert found == document
    assert type(found["short"]) is bytes
    assert type(found["long"]) is memoryview


LIST_32, MAP_32 = b"\xdd\xff\xff\xff\xff", b"\xdf\xff\xff\xff\xff"
MALFORMED = {
    "nothing": (b"", "empty"),
    "a byte that begins nothing": (b"\xc1", "0xc1"),
    "more after the end": (b"\x80\x80", "the document ends before the body does"),
    "a key twice": (b"\x82\xa1a\x01\xa1a\x02", '"a" stands twice'),
    "a key twice inside a list": (b"\x91\x82\xa1a\x01\xa1a\x02", '"a" stands twice'),
    "a number as a key": (b"\x81\x01\x01", "byte 0: the map has a key that is not a text"),
    "nil as a key": (b"\x81\xc0\x01", "byte 0: the map has a key that is not a text"),
    "binary data as a key": (b"\x81\xc4\x01a\x01", "byte 0: the map has a key that is not a text"),
    "a list as a key": (b"\x81\x91\x01\x01", "byte 0: the map has a key that is not a text"),
    "a text that is not UTF-8": (b"\xa2a\xff", "a text is not UTF-8"),
    "a lone surrogate": (b"\xa3\xed\xa0\x80", "a text is not UTF-8"),
    "an extension": (b"\xd4\x05\x00", "extension"),
    "a long extension": (b"\xc9\xff\xff\xff\xff\x05", "too large"),
    "a timestamp": (b"\xd6\xff\x00\x00\x00\x01", "extension"),
    "a timestamp in a list": (b"\x93\x01\xd6\xff\x00\x00\x00\x01\x02", "byte 2: an extension"),
    "an extension in a map": (b"\x81\xa1a\xc7\x01\x05\x00", "byte 3: an extension"),
    "a key that is a text and one that is not": (b"\x82\xa1a\x01\x02\x01", "byte 0: the map has a key"),
    "a key that is an extension": (b"\x81\xd4\x05\x00\x01", "byte 0: the map has a key"),
    "a bad text deep inside": (b"\x91\x81\xa1a\x92\x01\xa1\xff", "not UTF-8"),
    "a bad text as a key": (b"\x81\xa1\xff\x01", "not UTF-8"),
    "4 GB of text": (b"\xdb\xff\xff\xff\xff", "a length in the item is too large"),
    "4 GB of binary data": (b"\xc6\xff\xff\xff\xff", "a length in the item is too large"),
    "a list of 4 billion": (LIST_32, "a length in the item is too large"),
    "a map of 4 billion": (MAP_32, "a length in the item is too large"),
    "4 billion inside 4 billion": (LIST_32 * 99, "a length in the item is too large"),
}


@pytest.mark.parametrize(("body", "words"), MALFORMED.values(), ids=MALFORMED)
def test_malformed_body(server: Server, body: bytes, words: str) -> None:
    with pytest.raises(MalformedBodyError):
        decode(body, MAX_DEPTH)
    response = server.client.post("/v1/evaluate", content=body, headers=MSGPACK_TYPE)
    assert response.status_code == 400
    problem = response.json()
    assert problem["type"] == "/problems/malformed-body"
    assert words in problem["detail"]


def test_every_truncation_is_malformed() -> None:
    whole = msgpack.packb(
        {"a": [1, -1, 0.5, "text", b"bytes", None, 2**40, -300], "b" * 300: bytes(300), "c": [1.5] * 20, "d": [7] * 20}
    )
    assert decode(whole, MAX_DEPTH)
    for length in range(len(whole)):
        with pytest.raises(MalformedBodyError):
            decode(whole[:length], MAX_DEPTH)


@pytest.mark.parametrize("opening", [b"\x91", b"\x81\xa1x", b"\xdd\x00\x00\x00\x01"], ids=["list", "map", "long list"])
def test_depth_is_limited(server: Server, opening: bytes) -> None:
    assert decode(opening * MAX_DEPTH + b"\x01", MAX_DEPTH)
    for depth in (MAX_DEPTH + 1, 100_000):
        with pytest.raises(LimitExceededError):
            decode(opening * depth + b"\x01", MAX_DEPTH)
    response = server.client.post("/v1/evaluate", content=opening * 100_000, headers=MSGPACK_TYPE)
    assert response.status_code == 413
    assert "PULLBACK_MAX_DEPTH" in response.json()["detail"]


# Whatever is sent


def assert_civil(server: Server, path: str, body: bytes) -> None:
    """A success or a problem of the request's, never one of the server's."""
    response = server.client.post(path, content=body, headers={**MSGPACK_TYPE, "Accept": MSGPACK})
    document = read(response)
    assert response.status_code < 500, document


@pytest.mark.parametrize("path", ["/v1/evaluate", "/v1/programs"])
@given(body=st.binary(max_size=200))
@bounded
def test_random_bytes(server: Server, path: str, body: bytes) -> None:
    assert_civil(server, path, body)


REQUEST: dict[str, Any] = {
    "graph": {
        "nodes": [
            {"id": "y", "op": "sum", "args": [{"op": "mul", "args": [2, "x"]}], "attrs": {"axes": [0]}},
            {"id": "z", "op": "mask_fill", "args": ["x", [0, 1]], "attrs": {"value": 0.5}},
        ],
        "inputs": {"x": {"shape": [2], "dtype": "float64"}},
        "outputs": ["y", "z"],
    },
    "inputs": {"x": {"shape": [2], "dtype": "float64", "data": [1.0, 2.0]}},
    "backward": {"of": "y", "wrt": ["x"], "cotangent": 1.0, "order": 1, "create_graph": True},
    "outputs": ["y"],
    "seed": 1,
    "train": False,
    "batched": [],
    "encoding": "binary",
}


def places(document: Any) -> list[tuple[Any, ...]]:
    """The path to every item of a document."""
    items = document.items() if isinstance(document, dict) else enumerate(document)
    found: list[tuple[Any, ...]] = []
    for key, item in items:
        found.append((key,))
        if isinstance(item, dict | list):
            found += [(key, *rest) for rest in places(item)]
    return found


@pytest.mark.parametrize("path", ["/v1/evaluate", "/v1/infer", "/v1/vjp"])
@given(
    place=st.sampled_from(places(REQUEST)),
    item=leaves | numbers | st.sampled_from([b"", b"12345678", math.nan, -math.inf, {"data": b"1"}, [b"x"], {}]),
)
@bounded
def test_any_item_in_any_place(server: Server, path: str, place: tuple[Any, ...], item: Any) -> None:
    request = json.loads(json.dumps(REQUEST))
    inside = request
    for key in place[:-1]:
        inside = inside[key]
    inside[place[-1]] = item
    assert_civil(server, path, msgpack.packb(request))
    program = {"graph": request["graph"], "bind": request["inputs"]}
    assert_civil(server, "/v1/programs", msgpack.packb(program))


def test_openapi_has_both_forms(server: Server) -> None:
    document = server.client.get("/openapi.json").json()
    evaluate = document["paths"]["/v1/evaluate"]["post"]
    assert {"application/json", MSGPACK} == evaluate["requestBody"]["content"].keys()
    assert {"application/json", MSGPACK} == evaluate["responses"]["200"]["content"].keys()
    assert {"application/problem+json", MSGPACK} == evaluate["responses"]["422"]["content"].keys()
    assert MSGPACK in document["paths"]["/v1/ops"]["get"]["responses"]["200"]["content"]


def test_readme_example(server: Server) -> None:
    readme = (ROOT / "README.md").read_text()
    packed, *_ = re.findall(r"```py\n(.*?)```", readme, re.DOTALL)
    names: dict[str, Any] = {}
    exec(packed.replace("http://127.0.0.1:8000", server.base_url), names)
    np.testing.assert_allclose(names["gradient"], np.cos(np.linspace(0, 1, 100_000)), rtol=1e-15)
