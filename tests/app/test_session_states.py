"""Random commands on a session and on the local engine; refusals leave it as it was, restarts too."""

from __future__ import annotations

import base64
import json
import tempfile
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from app.sessions.errors import SessionError
from app.sessions.manager import Sessions
from app.sessions.runs import execute, read, show
from app.sessions.session import Quotas, Session
from app.stores import Policy, SqliteStore, Store
from app.stores.redis import RedisStore
from app.wire.values import dumps
from engine.core.errors import AutogradError
from tests.app.local import Local
from tests.app.scripts import back, do, expr, op, var
from tests.redis_process import RedisProcess, needs_redis
from tests.sampling import examples

NAMES = st.sampled_from(["a", "b", "c", "d"])
VALUES = st.sampled_from([0.5, -2.0, 0.0, [1.0, -0.5], [[0.25, 2.0], [3.0, -1.0]]])
EXPRESSIONS = [
    "{0} * {1}",
    "sum({0} ** 2)",
    "sin({0}) + {1}",
    "exp(-{0} * {0})",
    "tanh({0}) / 2.0",
    "dropout({0}, 0.5)",
]
COMMANDS = st.one_of(
    st.builds(lambda n, v, c: var(n, v, constant=c), NAMES, VALUES, st.booleans()),
    st.builds(lambda o, t, x, y: expr(o, t.format(x, y)), NAMES, st.sampled_from(EXPRESSIONS), NAMES, NAMES),
    st.builds(lambda o, x, y: op(o, "add", x, y), NAMES, NAMES, NAMES),
    st.builds(lambda n, c, r: back(n, create_graph=c, retain_grad=r), NAMES, st.booleans(), st.booleans()),
    st.builds(lambda n, o: do("grad", of=n, out=o), NAMES, NAMES),
    st.builds(lambda n, v: do("assign", id=n, value=v), NAMES, VALUES),
    st.builds(lambda n: do("cleargrad", ids=[n]), NAMES),
    st.just(do("cleargrad")),
    st.builds(lambda n: do("unchain", id=n), NAMES),
    st.builds(lambda n: do("unchain_backward", id=n), NAMES),
    st.builds(lambda n: do("delete", ids=[n]), NAMES),
    st.builds(lambda g, t: do("set", nograd=g, train=t), st.sampled_from([False, False, True]), st.booleans()),
    st.just(do("layer", id="l", kind="linear", config={"out_size": 2})),
    st.just(do("model", id="m", kind="lstm", config={"hidden_size": 2, "out_size": 1})),
    st.builds(lambda m, x, o: do("call", id=m, args=[x], out=[o]), st.sampled_from(["l", "m"]), NAMES, NAMES),
    st.builds(lambda m: do("reset_state", id=m), st.sampled_from(["l", "m"])),
    st.builds(lambda m: do("optimizer", id="o", kind="adam", params=m), st.sampled_from(["l", "m"])),
    st.just(do("step", id="o")),
)


def seen(held: Any) -> Any:
    return json.loads(dumps(show(held, ("value", "grad"), "base64", "application/json")))


class Machine(RuleBasedStateMachine):
    """A session in a file, and the same on the engine."""

    @initialize(copies=st.sampled_from([0, 2**20]))
    def begin(self, copies: int) -> None:
        self.copies = copies
        self.folder = tempfile.TemporaryDirectory()
        self.start()
        self.id = self.sessions.create("", ttl_s=None, seed=5, name=None, key=None)[0]
        self.local = Local(5)
        self.seq = 0

    def new_store(self) -> Store:
        return SqliteStore(Path(self.folder.name), Policy())

    def start(self) -> None:
        self.store = self.new_store()
        options = {"ttl_s": 100.0, "max_ttl_s": 100.0, "cache_bytes": self.copies, "deadline_s": 50.0}
        self.sessions = Sessions(self.store.sessions, Quotas(), **options)

    def teardown(self) -> None:
        if hasattr(self, "store"):
            self.store.close()
            self.folder.cleanup()

    @rule(commands=st.lists(COMMANDS, min_size=1, max_size=4), with_number=st.booleans())
    def run(self, commands: list[dict[str, Any]], with_number: bool) -> None:
        def work(session: Session, seq: int) -> tuple[int, str, bytes]:
            execute(session, read(commands))
            return 200, "", b"%d" % seq

        body = repr(commands).encode()
        seq = self.seq + 1 if with_number else None
        try:
            with np.errstate(all="ignore"):
                found = self.sessions.change(self.id, body, seq, work)
        except (AutogradError, SessionError):
            return
        with np.errstate(all="ignore"):
            for command in commands:
                self.local.do(command)
        self.seq += 1
        assert found.answered.content == b"%d" % self.seq
        again = self.sessions.change(self.id, body, self.seq, work)
        assert again.is_replay and again.answered == found.answered

    @rule()
    def restart(self) -> None:
        self.store.close()
        self.start()

    @invariant()
    def is_as_on_the_engine(self) -> None:
        if not hasattr(self, "id"):
            return
        local = self.local
        expected = local.seen()

        def check(session: Session, head: Any) -> None:
            assert head.seq == self.seq
            assert list(session.ids) == list(local.ids)
            assert (session.nograd, session.train) == (local.nograd, local.train)
            assert session.rng.bit_generator.state == local.rng.bit_generator.state
            for name, held in session.ids.items():
                assert_same(held, expected[name])

        self.sessions.look(self.id, check)


def assert_same(held: Any, expected: Any) -> None:
    def same(found: Any, array: Any) -> None:
        assert (found is None) == (array is None)
        if found is not None:
            assert (tuple(found["shape"]), found["dtype"]) == (array.shape, str(array.dtype))
            assert base64.b64decode(found["base64"]) == array.tobytes()

    found = seen(held)
    assert found.keys() == expected.keys()
    for aspect, item in expected.items():
        if aspect == "state":
            assert found["state"].keys() == item.keys()
            for name, array in item.items():
                same(found["state"][name], array)
        else:
            same(found[aspect], item)


class RedisMachine(Machine):
    """The same in a Redis server, which is told by the test."""

    url: ClassVar[str]

    def new_store(self) -> Store:
        return RedisStore(self.url, Policy())


TestSessions = Machine.TestCase
TestSessions.settings = settings(max_examples=examples(60), stateful_step_count=25, deadline=None)


@needs_redis
def test_sessions_in_redis(redis_server: RedisProcess) -> None:
    RedisMachine.url = redis_server.url
    run_state_machine_as_test(
        RedisMachine, settings=settings(max_examples=examples(30), stateful_step_count=25, deadline=None)
    )
