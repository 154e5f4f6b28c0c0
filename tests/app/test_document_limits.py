"""Documents are counted before they are parsed: their nesting, their items, and the memory that they would take."""

import json
import math
import subprocess
import sys
from typing import Any

import msgpack
import orjson
import pytest

from app.settings import Settings
from app.wire import codecs
from app.wire.document import loads, parse
from app.wire.media import JSON, MSGPACK
from app.wire.msgpack import decode
from engine.core import LimitExceededError
from tests.app.conftest import ROOT

MIB = 2**20
MAX_DEPTH = 100
HONEST: dict[str, Any] = {
    "numbers": [0.1] * 50_000,
    "rows": [[1.5, 2.5, 3.5]] * 10_000,
    "small integers": list(range(100)) * 500,
    "commands": [{"do": "apply", "op": "sin", "args": ["x"], "out": [f"y{n}"]} for n in range(2000)],
    "text": "[{,:" * 1000,
}


def list_32(length: int) -> bytes:
    return b"\xdd" + length.to_bytes(4, "big")


#: JSON, the estimated bytes, and the counts that the message has.
JSON_BOMBS = {
    "empty lists": (b"[" + b"[]," * 99_999 + b"[]]", 100_001 * 72 + 99_999 * 32, "100,001 opening brackets"),
    "empty objects": (b"[" + b"{}," * 99_999 + b"{}]", 100_001 * 72 + 99_999 * 32, "99,999 commas"),
    "keys": (b"[" + b'{"a":0},' * 49_999 + b'{"a":0}]', 50_001 * 72 + 49_999 * 32 + 50_000 * 100, "50,000 colons"),
    "numbers": (b"[" + b"1," * 199_999 + b"1]", 72 + 199_999 * 32, "199,999 commas"),
    "lists deep inside": (
        b"[" * 99 + b"[]," * 99_999 + b"[]" + b"]" * 99,
        100_099 * 72 + 99_999 * 32,
        "100,099 opening",
    ),
}
#: MessagePack, and the limit that refuses it.
MSGPACK_BOMBS = {
    "empty lists": (list_32(100_000) + b"\x90" * 100_000, "DOCUMENT_BYTES"),
    "empty maps": (list_32(100_000) + b"\x80" * 100_000, "DOCUMENT_BYTES"),
    "lists of empty lists": (list_32(100) + (list_32(1000) + b"\x90" * 1000) * 100, "DOCUMENT_BYTES"),
    "maps": (list_32(50_000) + b"\x81\xa1a\x01" * 50_000, "DOCUMENT_BYTES"),
    "integers": (list_32(200_000) + b"\x01" * 200_000, "ELEMENTS"),
    "lists of integers": (list_32(4) + (list_32(45_000) + b"\xe0" * 45_000) * 4, "ELEMENTS"),
    "lists deep inside": (b"\x91" * 98 + list_32(100_000) + b"\x90" * 100_000, "DOCUMENT_BYTES"),
    "a longer list than the body": (list_32(200_000) + b"\x01" * 160_000, "ELEMENTS"),
}


@pytest.mark.parametrize("title", JSON_BOMBS)
def test_json_is_counted_before_it_is_parsed(monkeypatch: pytest.MonkeyPatch, title: str) -> None:
    body, needed, words = JSON_BOMBS[title]
    assert parse(body, MAX_DEPTH, needed) == parse(body, MAX_DEPTH)
    monkeypatch.setattr(orjson, "loads", lambda _: pytest.fail("the body is parsed"))
    with pytest.raises(LimitExceededError, match=r"\(setting PULLBACK_MAX_DOCUMENT_BYTES\)") as refused:
        parse(body, MAX_DEPTH, needed - 1)
    assert f"about {needed:,} bytes" in str(refused.value) and f"the limit is {needed - 1:,}" in str(refused.value)
    assert words in str(refused.value)


@pytest.mark.parametrize("title", MSGPACK_BOMBS)
def test_messagepack_is_counted_before_its_items_are_made(title: str) -> None:
    body, setting = MSGPACK_BOMBS[title]
    with pytest.raises(LimitExceededError, match=rf"\(setting PULLBACK_MAX_{setting}\)"):
        decode(body, MAX_DEPTH, 6 * MIB, 150_000)
    if "longer" not in title:
        assert decode(body, MAX_DEPTH, 64 * MIB, 300_000) == decode(body, MAX_DEPTH)


@pytest.mark.parametrize("title", HONEST)
def test_honest_documents_pass(title: str) -> None:
    document = HONEST[title]
    for media_type, body in ((JSON, json.dumps(document).encode()), (MSGPACK, msgpack.packb(document))):
        assert codecs.decode(media_type, body, MAX_DEPTH, 4 * MIB, 100_000) == document


def test_the_largest_honest_body_passes() -> None:
    limits = Settings().document_limits()
    numbers = [0.1234567890123456] * 1_600_000
    assert parse(orjson.dumps(numbers), **{key: limits[key] for key in ("max_depth", "max_bytes")}) == numbers
    assert 72 + 32 * len(numbers) < 52e6 < Settings().max_document_bytes


def test_binary_data_counts_as_one_item() -> None:
    document = {"shape": [10**6], "dtype": "float64", "data": bytes(8 * 10**6)}
    assert decode(msgpack.packb(document), MAX_DEPTH, 2000, 20) == document


@pytest.mark.parametrize("max_depth", [1, 5, 6, 7, 8, 500])
@pytest.mark.parametrize("opening", [b"\x91", b"\x81\xa1x"], ids=["list", "map"])
@pytest.mark.parametrize("budget", [math.inf, 1e6], ids=["free", "counted"])
def test_depth_is_exact(opening: bytes, max_depth: int, budget: float) -> None:
    deepest = decode(opening * max_depth + b"\x01", max_depth, budget, budget / 1000)
    for _ in range(max_depth):
        deepest = deepest[0] if type(deepest) is list else deepest["x"]
    assert deepest == 1
    for inside in (b"\x01", b"\x90"):
        with pytest.raises(LimitExceededError, match="PULLBACK_MAX_DEPTH"):
            decode(opening * (max_depth + 1) + inside, max_depth, budget, budget / 1000)


# orjson says in two ways that there is no memory, neither of them MemoryError.


def no_buffer(_: bytes) -> Any:
    raise orjson.JSONDecodeError("Not enough memory to allocate buffer for parsing", "", 0)


def no_object(_: bytes) -> Any:
    raise SystemError("<built-in function loads> returned a result with an exception set") from MemoryError()


@pytest.mark.parametrize("fails", [no_buffer, no_object])
@pytest.mark.parametrize("body", [b"[1]", b"[-0]"])
def test_want_of_memory_is_no_malformed_body(monkeypatch: pytest.MonkeyPatch, fails: Any, body: bytes) -> None:
    monkeypatch.setattr(orjson, "loads", fails)
    for read in (loads, lambda given: parse(given, MAX_DEPTH)):
        with pytest.raises(MemoryError):
            read(body)


def test_other_errors_of_the_parser_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(_: bytes) -> Any:
        raise SystemError("a bug")

    monkeypatch.setattr(orjson, "loads", fails)
    with pytest.raises(SystemError, match="a bug"):
        loads(b"[1]")


@pytest.mark.skipif(sys.platform != "linux", reason="RLIMIT_DATA holds on Linux alone")
def test_a_body_that_does_not_fit_into_memory() -> None:
    script = """
import resource
from app.wire.document import parse
body = b"[" + b"1," * 15_000_000 + b"1]"
used = 1024 * int(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmData")))
resource.setrlimit(resource.RLIMIT_DATA, (used + 100 * 2**20,) * 2)
try:
    parse(body, 100)
except MemoryError:
    print("no memory")
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("no memory\n", "")
