"""Content codings: answers are compressed for who asks, requests are inflated within the limit of a body."""

from __future__ import annotations

import gzip
import json
import resource
import sys
import tracemalloc
import zlib
from typing import TYPE_CHECKING, Any

import httpx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.wire.compression import answer_coding, compress, inflate
from app.wire.document import MalformedBodyError
from app.wire.media import BodyTooLargeError, NotAcceptableError
from tests.app.conftest import start_server
from tests.app.test_fuzz import bounded
from tests.app.test_malformed import GOOD, JSON_TYPE, assert_problem

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    import backports.zstd as zstd

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.app.conftest import Server

CODINGS = ["gzip", "zstd"]
PACK: dict[str, Callable[[bytes], bytes]] = {"gzip": gzip.compress, "zstd": zstd.compress}
UNPACK: dict[str, Callable[[bytes], bytes]] = {"gzip": gzip.decompress, "zstd": zstd.decompress}
MAX_BODY_BYTES = 32 * 2**20
LONG = {"expr": "x * 2", "inputs": {"x": list(range(2000))}}
#: More than is inflated or compressed on the event loop.
VERY_LONG = {"expr": "x * 2", "inputs": {"x": list(range(100_000))}}


def raw_answer(server: Server, path: str, document: Any, **headers: str) -> tuple[httpx.Response, bytes]:
    """An answer, and its bytes as they came."""
    request = server.client.build_request("POST" if document else "GET", path, json=document)
    del request.headers["accept-encoding"]
    request.headers.update(headers)
    response = server.client.send(request, stream=True)
    return response, b"".join(response.iter_raw())


# Answers


@pytest.mark.parametrize("document", [LONG, VERY_LONG], ids=["long", "very long"])
@pytest.mark.parametrize("coding", CODINGS)
def test_answers_are_compressed_for_who_asks(server: Server, coding: str, document: dict[str, Any]) -> None:
    plain, whole = raw_answer(server, "/v1/evaluate", document)
    packed, content = raw_answer(server, "/v1/evaluate", document, **{"Accept-Encoding": coding})
    assert "content-encoding" not in plain.headers
    assert packed.headers["content-encoding"] == coding
    assert "Accept-Encoding" in packed.headers["vary"]
    assert int(packed.headers["content-length"]) == len(content) < len(whole)
    assert UNPACK[coding](content) == whole


def test_every_json_answer_can_be_compressed(server: Server) -> None:
    for path in ("/v1/ops", "/v1/programs?limit=100"):
        plain, whole = raw_answer(server, path, None)
        packed, content = raw_answer(server, path, None, **{"Accept-Encoding": "gzip", "Accept": "application/json"})
        assert "Accept-Encoding" in plain.headers["vary"]
        assert (gzip.decompress(content) if "content-encoding" in packed.headers else content) == whole


def test_short_answers_stay_as_they_are(server: Server) -> None:
    response, content = raw_answer(server, "/v1/evaluate", json.loads(GOOD), **{"Accept-Encoding": "gzip, zstd"})
    assert "content-encoding" not in response.headers
    assert json.loads(content)["values"] == {"x": 1}


def test_what_hardly_shrinks_stays_as_it_is(server: Server) -> None:
    x = np.random.default_rng(0).standard_normal(20_000).tolist()
    document = {"expr": "x", "inputs": {"x": x}, "encoding": "binary"}
    headers = {"Accept": "application/msgpack", "Accept-Encoding": "gzip, zstd"}
    response, content = raw_answer(server, "/v1/evaluate", document, **headers)
    assert "content-encoding" not in response.headers
    assert np.array(x).tobytes() in content
    forced, _ = raw_answer(server, "/v1/evaluate", document, **{**headers, "Accept-Encoding": "gzip, identity;q=0"})
    assert forced.headers["content-encoding"] == "gzip"


@pytest.mark.parametrize(
    ("accepted", "long", "short"),
    [
        ("", "identity", "identity"),
        ("identity", "identity", "identity"),
        ("gzip", "gzip", "identity"),
        ("GZIP", "gzip", "identity"),
        ("zstd", "zstd", "identity"),
        ("gzip, zstd", "zstd", "identity"),
        ("gzip, deflate, br, zstd", "zstd", "identity"),
        ("gzip;q=1.0, zstd;q=0.5", "gzip", "identity"),
        ("gzip;q=0", "identity", "identity"),
        ("gzip;q=nonsense", "identity", "identity"),
        ("gzip;q=2", "identity", "identity"),
        ("gzip;q=nan", "identity", "identity"),
        ("br, deflate", "identity", "identity"),
        ("*", "identity", "identity"),
        ("gzip;q=0, *", "identity", "identity"),
        ("gzip;q=0.5, identity", "identity", "identity"),
        ("gzip;q=0.5, identity;q=0.4", "gzip", "identity"),
        ("gzip, identity;q=0", "gzip", "gzip"),
        ("*, identity;q=0", "zstd", "zstd"),
        ("gzip, *;q=0", "gzip", "gzip"),
        ("zstd;q=0, *, identity;q=0", "gzip", "gzip"),
        ("identity, *;q=0", "identity", "identity"),
        ("identity;q=0", "refused", "refused"),
        ("*;q=0", "refused", "refused"),
        ("br, identity;q=0", "refused", "refused"),
        ("gzip;q=0, zstd;q=0, identity;q=0", "refused", "refused"),
    ],
)
def test_accept_encoding(accepted: str, long: str, short: str) -> None:
    for nbytes, expected in ((10_000, long), (100, short)):
        if expected == "refused":
            with pytest.raises(NotAcceptableError):
                answer_coding(accepted, nbytes)
        else:
            assert answer_coding(accepted, nbytes) == expected


@pytest.mark.parametrize("path", ["/v1/evaluate", "/v1/ops"])
def test_a_client_that_takes_no_coding_is_refused(server: Server, path: str) -> None:
    document = json.loads(GOOD) if path == "/v1/evaluate" else None
    response, content = raw_answer(server, path, document, **{"Accept-Encoding": "identity;q=0"})
    assert response.status_code == 406
    assert "gzip" in json.loads(content)["detail"]


def test_vary_keeps_what_cors_says(tmp_path: Path) -> None:
    with start_server(tmp_path, cors_origins="https://a.example") as running:
        response = running.client.get("/v1/ops", headers={"Origin": "https://a.example"})
        assert {item.strip() for item in response.headers["vary"].split(",")} == {"Accept", "Accept-Encoding", "Origin"}


# Requests


@pytest.mark.parametrize("document", [json.loads(GOOD), LONG, VERY_LONG], ids=["short", "long", "very long"])
@pytest.mark.parametrize("coding", [*CODINGS, "x-gzip", "GZIP", "identity"])
def test_compressed_requests_are_read(server: Server, coding: str, document: dict[str, Any]) -> None:
    body = json.dumps(document).encode()
    content = PACK.get(coding.lower().removeprefix("x-"), bytes)(body)
    headers = {**JSON_TYPE, "Content-Encoding": coding}
    answer = server.client.post("/v1/evaluate", content=content, headers=headers)
    expected = server.client.post("/v1/evaluate", content=body, headers=JSON_TYPE)
    assert answer.status_code == 200
    assert answer.json() == expected.json()


@pytest.mark.parametrize("coding", ["br", "deflate", "compress", "gzip, gzip", "gzip, zstd"])
def test_other_codings_are_unsupported(server: Server, coding: str) -> None:
    headers = {**JSON_TYPE, "Content-Encoding": coding}
    response = server.client.post("/v1/evaluate", content=GOOD, headers=headers)
    problem = assert_problem(response, "unsupported-media-type")
    assert "gzip" in problem["detail"] and "zstd" in problem["detail"]


def torn(coding: str) -> dict[str, bytes]:
    """Bodies that are not one whole stream of a coding."""
    whole = PACK[coding](GOOD)
    return {
        "plain": GOOD,
        "empty": b"",
        "half": whole[: len(whole) // 2],
        "without its end": whole[:-1],
        "goes on": whole + b"x",
        "twice": whole + whole,
        "the other coding": PACK["zstd" if coding == "gzip" else "gzip"](GOOD),
        "zlib": zlib.compress(GOOD),
    }


@pytest.mark.parametrize("title", torn("gzip"))
@pytest.mark.parametrize("coding", CODINGS)
def test_torn_streams_are_malformed(server: Server, coding: str, title: str) -> None:
    headers = {**JSON_TYPE, "Content-Encoding": coding}
    response = server.client.post("/v1/evaluate", content=torn(coding)[title], headers=headers)
    assert coding in assert_problem(response, "malformed-body")["detail"]


def test_a_damaged_checksum_is_malformed() -> None:
    whole = bytearray(gzip.compress(GOOD))
    whole[-6] ^= 1
    with pytest.raises(MalformedBodyError):
        inflate(bytes(whole), "gzip", 1000)


@pytest.mark.parametrize("coding", CODINGS)
@pytest.mark.parametrize("size", [0, 1, 1000, 100_000])
def test_the_limit_is_that_of_inflated_bytes(coding: str, size: int) -> None:
    packed = PACK[coding](bytes(size))
    assert inflate(packed, coding, max(size, 1)) == bytes(size)
    if size:
        with pytest.raises(BodyTooLargeError):
            inflate(packed, coding, size - 1)


@pytest.mark.parametrize("coding", CODINGS)
def test_a_bomb_is_refused_while_it_inflates(server: Server, coding: str) -> None:
    bomb = PACK[coding](bytes(2 * MAX_BODY_BYTES))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(BodyTooLargeError, match="PULLBACK_MAX_BODY_BYTES"):
        inflate(bomb, coding, 2**16)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2**13
    headers = {**JSON_TYPE, "Content-Encoding": coding}
    response = server.client.post("/v1/evaluate", content=bomb, headers=headers)
    problem = assert_problem(response, "body-too-large")
    assert "inflated" in problem["detail"]
    server.assert_well()


@pytest.mark.parametrize("coding", CODINGS)
def test_beyond_a_mebibyte_a_body_inflates_to_a_hundredfold_at_most(coding: str) -> None:
    bomb = PACK[coding](bytes(16 * 2**20))
    with pytest.raises(BodyTooLargeError, match=rf"{len(bomb):,} bytes of {coding} may become 100 times") as refused:
        inflate(bomb, coding, MAX_BODY_BYTES)
    assert "send it without Content-Encoding" in str(refused.value)
    dense = np.random.default_rng(0).bytes(2**18)
    for length, inflates in ((2**20 - len(dense), True), (60 * len(dense), True), (120 * len(dense), False)):
        body = dense + bytes(length)
        if inflates:
            assert inflate(PACK[coding](body), coding, MAX_BODY_BYTES) == body
        else:
            with pytest.raises(BodyTooLargeError):
                inflate(PACK[coding](body), coding, MAX_BODY_BYTES)


@pytest.mark.parametrize("coding", CODINGS)
def test_a_small_bomb_costs_little_memory(coding: str) -> None:
    bomb = PACK[coding](bytes(MAX_BODY_BYTES))[: 32 * 2**10]
    tracemalloc.start()
    with pytest.raises((BodyTooLargeError, MalformedBodyError)):
        inflate(bomb, coding, MAX_BODY_BYTES)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 * 2**20


def test_a_window_larger_than_http_allows_is_refused() -> None:
    options = {zstd.CompressionParameter.window_log: 27}
    with pytest.raises(MalformedBodyError):
        inflate(zstd.compress(bytes(2**25), options=options), "zstd", 2**30)


@pytest.mark.parametrize("coding", CODINGS)
@given(body=st.binary(max_size=300))
@bounded
def test_random_bytes(server: Server, coding: str, body: bytes) -> None:
    packed = PACK[coding](body)
    assert inflate(compress(body, coding), coding, 300) == body
    for content in (body, packed, packed[: len(body)], packed[:20] + body):
        headers = {**JSON_TYPE, "Content-Encoding": coding}
        response = server.client.post("/v1/evaluate", content=content, headers=headers)
        assert response.status_code < 500
