"""Snapshots of sessions: what is read back goes on as what was written would have, bit for bit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from app.sessions.runs import ASPECTS, execute, fetch, read
from app.sessions.session import Quotas, Session
from app.sessions.snapshot import LARGE, DamagedSnapshotError, Snapshot, StoredArrays, write
from app.sessions.snapshot import read as read_snapshot
from engine.core.operation import Example, Operation
from engine.core.variable import Variable
from engine.nn.checkpoint import records, variables
from tests.engine.cases import CASES, attributes, extra, moved, operands, outputs


def bits(x: Any) -> Any:
    """All of an array, strides too where they mean anything."""
    array = np.asarray(x)
    strides = [stride for n, stride in zip(array.shape, array.strides, strict=True) if n > 1] if array.size else []
    return str(array.dtype), array.shape, strides, array.tobytes()


def copied(found: list[Variable]) -> list[Variable]:
    """The same by way of a session's snapshot."""
    session = Session(0, Quotas())
    session.ids = {f"x{n}": v for n, v in enumerate(found)}
    snapshot, _ = write(session, StoredArrays())
    session, _ = read_snapshot(snapshot.document, snapshot.new, Quotas())
    return [session.variable(f"x{n}", ()) for n in range(len(found))]


@pytest.mark.parametrize(("op", "example"), CASES)
def test_every_operation_goes_backward_from_a_snapshot(op: Operation, example: Example) -> None:
    """First gradients, and those of gradients that were on the tape when it was written."""
    places = moved(op, example)
    given = operands(op, example)
    xs = [Variable(given[n]) for n in places]
    mixed = list(given)
    for n, x in zip(places, xs, strict=True):
        mixed[n] = x
    results = outputs(op.run(tuple(mixed), attributes(op, example), **extra(op)))
    ys = [y for y in results if isinstance(y, Variable) and y.dtype.kind == "f"]
    for v in [*xs, *(y for y in results if isinstance(y, Variable))]:
        assert bits(copied([v])[0]._data) == bits(v._data)
    again = copied([*ys, *xs])
    for y in (*ys, *again[: len(ys)]):
        with np.errstate(all="ignore"):
            y.backward(create_graph=True)
    compare(xs, again[len(ys) :])
    once_more = copied([*again[: len(ys)], *again[len(ys) :]])[len(ys) :]
    for group in (xs, once_more):
        for x in group:
            if x.grad is not None and x.grad.creator is not None:
                with np.errstate(all="ignore"):
                    x.grad.backward()
    compare(xs, once_more)


def compare(xs: list[Variable], others: list[Variable]) -> None:
    for x, other in zip(xs, others, strict=True):
        assert bits(x.data) == bits(other.data)
        assert (x.grad is None) == (other.grad is None)
        if x.grad is not None and other.grad is not None:
            assert bits(x.grad.data) == bits(other.grad.data)


LAYOUTS: dict[str, Any] = {
    "transposed": lambda x: x.T,
    "reversed": lambda x: x[::-1],
    "every other column": lambda x: x[:, ::2],
    "broadcast": lambda x: np.broadcast_to(x[:1], x.shape),
    "empty": lambda x: x[:0],
    "a part, transposed": lambda x: x[1:, 1:].T,
    "float32": lambda x: x.astype(np.float32),
    "one integer": lambda x: np.array(7),
    "truths": lambda x: x > 0.5,
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_arrays_keep_their_layout(layout: str) -> None:
    for shape in ((3, 4), (90, 70)):
        array = LAYOUTS[layout](np.random.default_rng(0).random(shape))
        v = Variable._leaf(array)
        (again,) = copied([v])
        assert bits(again._data) == bits(v._data)


def test_stale_data_stays_stale_and_fresh_data_fresh() -> None:
    x, y = Variable(2.0), Variable([1.0, 2.0])
    z = x * y
    y.data = [5.0, 6.0]
    found = variables(records([z, x, y]))
    z2, x2, y2 = found[:3]
    assert z2._saved[0] is x2._data
    assert z2._saved[1] is not y2._data
    z2.backward()
    assert x2.grad is not None and x2.grad.data == 3.0


def step(session: Session, kept: StoredArrays, commands: list[dict[str, Any]]) -> tuple[Snapshot, StoredArrays]:
    execute(session, read(commands))
    return write(session, kept)


def test_large_arrays_are_written_once() -> None:
    session = Session(0, Quotas())
    data = np.arange(LARGE, dtype=float).tolist()
    first, kept = step(session, StoredArrays(), [{"do": "variable", "id": "x", "value": data}])
    assert len(first.document) < LARGE and [len(b) for b in first.new.values()] == [8 * LARGE]
    second, kept = step(session, kept, [{"do": "apply", "expr": "sum(x)", "out": ["s"]}])
    assert not second.new and second.numbers == first.numbers
    third, kept = step(session, kept, [{"do": "apply", "expr": "x * 2", "out": ["y"]}])
    assert len(third.new) == 1 and set(first.numbers) < set(third.numbers)
    fourth, _ = step(session, kept, [{"do": "delete", "ids": ["y"]}])
    assert fourth.numbers == first.numbers


TRAINING = [
    {"do": "model", "id": "m", "kind": "lstm", "config": {"hidden_size": 5, "out_size": 1}},
    {"do": "layer", "id": "l", "kind": "linear", "config": {"out_size": 2, "in_size": 30}},
    {
        "do": "optimizer",
        "id": "o",
        "kind": "adam",
        "config": {"alpha": 0.1},
        "params": "m",
        "hooks": [{"kind": "clip_grad", "max": 0.5}, {"kind": "weight_decay", "rate": 0.01}],
    },
]
STEP = [
    {"do": "call", "id": "m", "args": [[[0.5, 1.0], [0.25, -1.0]]], "out": ["q"]},
    {"do": "apply", "expr": "mean((dropout(q, 0.3) - 1.0)**2)", "out": ["loss"]},
    {"do": "cleargrad", "ids": ["m"]},
    {"do": "backward", "of": "loss"},
    {"do": "step", "id": "o"},
]


def test_training_goes_on() -> None:
    """With a snapshot after every run, and without: weights, optimizer, recurrent memory and random numbers."""
    plain, kept = Session(7, Quotas()), StoredArrays()
    again = Session(7, Quotas())
    beside: dict[int, bytes] = {}
    for commands in (TRAINING, STEP, STEP, [{"do": "unchain_backward", "id": "loss"}], STEP, STEP):
        execute(plain, read(commands))
        execute(again, read(commands))
        snapshot, kept = write(again, kept)
        beside |= snapshot.new
        again, kept = read_snapshot(snapshot.document, {n: beside[n] for n in snapshot.numbers}, Quotas())
    wanted = ["m", "o", "l", {"id": "loss", "what": list(ASPECTS)}, {"id": "m.lstm.h2f.w", "what": list(ASPECTS)}]
    found = [fetch(session, wanted, "base64", "application/json") for session in (plain, again)]
    assert found[0] == found[1]
    assert len(found[0]["o"]["state"]) > 10


def test_what_is_no_snapshot_is_refused() -> None:
    session = Session(0, Quotas())
    execute(session, read([{"do": "variable", "id": "x", "value": np.arange(1000.0).tolist()}]))
    snapshot, _ = write(session, StoredArrays())
    for document, large in [
        (b"", snapshot.new),
        (snapshot.document[:-3], snapshot.new),
        (snapshot.document, {}),
        (snapshot.document, {0: b"short"}),
        (snapshot.document, {0: b"\1" + snapshot.new[0][1:]}),
        (snapshot.document.replace(b"\xa6format\x01", b"\xa6format\x02"), snapshot.new),
        (snapshot.document.replace(b"nograd", b"nogrid"), snapshot.new),
    ]:
        with pytest.raises(DamagedSnapshotError):
            read_snapshot(document, large, Quotas())
