"""`pullback keys`: keys from the command line, and a server that asks for them."""

from __future__ import annotations

import re
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import httpx
import pytest

from app import server
from app.cli import main
from app.server import ServeError
from app.settings import Settings
from app.stores.sqlite import FILE
from tests.app.conftest import start_server

if TYPE_CHECKING:
    from pathlib import Path

KEY = re.compile(r"pb_(k_[0-9a-f]{12})_[0-9a-f]{40}")
QUICK = {"expr": "x * 2.5", "inputs": {"x": 2.0}}
VERBS = ("create", "rotate", "revoke")


@pytest.fixture(autouse=True)
def _store(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PULLBACK_DATA_DIR", str(tmp_path / "data"))


def run(capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    assert main(["keys", *argv]) == 0, capsys.readouterr().err
    return capsys.readouterr().out.rstrip("\n")


def test_a_key_from_its_making_to_its_end(capsys: pytest.CaptureFixture[str]) -> None:
    key = run(capsys, "create", "ada", "--scopes", "evaluate, sessions", "--rate", "500", "--max-sessions", "10")
    found = KEY.fullmatch(key)
    assert found is not None
    listed = run(capsys, "list")
    assert listed.startswith(f"{found[1]}  evaluate,sessions  rate 500  sessions 10  created ")
    assert listed.endswith("  ada")
    new = run(capsys, "rotate", found[1], "--grace", "60")
    assert KEY.fullmatch(new)
    assert new != key
    assert "old secret until" in run(capsys, "list")
    assert run(capsys, "revoke", found[1]) == f"revoked {found[1]}"
    assert "revoked 2" in run(capsys, "list")
    secrets = [text.rpartition("_")[2] for text in (key, new)]
    assert not any(secret in run(capsys, "list") for secret in secrets)


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["create", "ada", "--scopes", "all"], '"all" is no scope; expected some of evaluate, programs, sessions'),
        (["create", "ada", "--scopes", ""], "a key needs a scope"),
        (["create", ""], "1 to 100 letters"),
        (["create", "a\nb"], "no control characters"),
        (["create", "ada", "--rate", "0"], "rate is 0; expected a number from 1e-06 on"),
        (["create", "ada", "--rate", "nan"], "rate is nan"),
        (["create", "ada", "--max-programs", "-1"], "programs is -1"),
        (["revoke", "k_0"], 'there is no key "k_0"; `pullback keys list` shows all'),
        (["rotate", "k_0", "--grace", "-1"], "grace period is -1 s"),
        (["rotate", "k_0"], "there is no key"),
    ],
)
def test_what_cannot_be_is_one_line(argv: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    run(capsys, "create", "first")
    assert main(["keys", *argv]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("pullback: ")
    assert words in printed.err
    assert printed.err.count("\n") == 1


def test_a_store_in_memory_has_no_keys(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("PULLBACK_STORE", "memory")
    assert main(["keys", "list"]) == 2
    assert "PULLBACK_STORE is memory" in capsys.readouterr().err


def test_a_key_says_in_which_store_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["list"], ["rotate", "k_0"], ["revoke", "k_0"]):
        assert main(["keys", *words]) == 2
        assert f'there is no "{tmp_path / "data" / FILE}"; PULLBACK_DATA_DIR names' in capsys.readouterr().err
    assert not (tmp_path / "data").exists()
    assert main(["keys", "create", "ada"]) == 0
    assert f"pullback: the key is in {tmp_path / 'data' / FILE}" in capsys.readouterr().err


def test_each_act_is_recorded_without_secrets(
    capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    key = run(capsys, "create", "ada")
    key_id = key[3:17]
    run(capsys, "rotate", key_id)
    run(capsys, "revoke", key_id)
    acts = [record.getMessage() for record in caplog.records if record.name == "pullback.audit"]
    assert [act.split(" key ")[0] for act in acts] == [f"audit: command line: {act} the" for act in VERBS]
    assert key.rpartition("_")[2] not in caplog.text


def test_a_server_whose_keys_cannot_be_read_does_not_start(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(capsys, "create", "ada")
    with closing(sqlite3.connect(tmp_path / "data" / FILE)) as connection:
        connection.execute("UPDATE keys SET record = 'x'")
        connection.commit()
    assert main(["serve", "--port", "0"]) == 2
    assert capsys.readouterr().err == "pullback: the record of key number 1 is damaged in the store\n"


def test_a_damaged_key_hides_no_others_from_its_operator(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("ada", "bob"):
        run(capsys, "create", name)
    with closing(sqlite3.connect(tmp_path / "data" / FILE)) as connection:
        connection.execute("UPDATE keys SET record = 'x' WHERE number = 1")
        connection.commit()
    run(capsys, "create", "eve")
    listed = run(capsys, "list")
    assert "bob" in listed and "eve" in listed and "ada" not in listed
    assert "the record of key number 1 is damaged in the store" in caplog.text


def test_the_first_key_stands_in_for_insecure(capsys: pytest.CaptureFixture[str]) -> None:
    settings = Settings(host="192.0.2.1", port=0)
    with pytest.raises(ServeError, match=r"make a key \(pullback keys create NAME\), or say --insecure"):
        server._listen(settings, 1, has_keys=server._check_store(settings))
    run(capsys, "create", "ada")
    # With a key it tries, and this address is none of this machine.
    with pytest.raises(ServeError, match=r"cannot listen on 192\.0\.2\.1"):
        server._listen(settings, 1, has_keys=server._check_store(settings))


@pytest.mark.thorough
@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_server_with_keys(workers: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With keys it listens on all addresses, keeps rates over its processes, and lets a revoked key in no more."""
    key = run(capsys, "create", "ada", "--rate", "0.001", "--burst", "20")
    admin = run(capsys, "create", "root", "--scopes", "admin")
    with start_server(tmp_path, ("app.cli", "serve", "--host", "0.0.0.0"), workers=workers) as running:
        assert running.client.post("/v1/evaluate", json=QUICK).status_code == 401
        statuses: list[int] = []
        while 429 not in statuses and len(statuses) < 1000:
            # A connection each, which the processes share.
            with httpx.Client(base_url=running.base_url, trust_env=False) as client:
                client.headers["Authorization"] = f"Bearer {key}"
                statuses.append(client.post("/v1/evaluate", json=QUICK).status_code)
        assert set(statuses) == {200, 429}
        # A tenth of a unit for each answer of the event loop: two processes alone would have given twice as many.
        assert len(statuses) <= 202
        _check_owners(running.client, admin, run(capsys, "create", "bob", "--max-programs", "1"))
        headers = {"Authorization": f"Bearer {admin}"}
        assert running.client.get("/v1", headers=headers).status_code == 200
        run(capsys, "revoke", admin[3:17])
        while running.client.get("/v1", headers=headers).status_code == 200:
            pass
        log = (tmp_path / "server.log").read_text()
        assert f"the key {admin[3:17]} was revoked" in log
        assert not [secret for secret in (key, admin) if secret.rpartition("_")[2] in log]


def _check_owners(client: httpx.Client, admin: str, bob: str) -> None:
    """Worker processes know owners too."""

    def ask(key: str, method: str, path: str, document: object = None) -> httpx.Response:
        return client.request(method, path, json=document, headers={"Authorization": f"Bearer {key}"})

    while ask(bob, "GET", "/v1").status_code == 401:
        pass
    session = f"/v1/sessions/{ask(admin, 'POST', '/v1/sessions', {}).json()['id']}"
    assert ask(bob, "GET", session).status_code == 403
    assert ask(bob, "POST", f"{session}/run", {"commands": []}).status_code == 403
    assert ask(admin, "DELETE", session).status_code == 204
    added = [ask(bob, "POST", "/v1/programs", {"expr": f"x * {n}"}).status_code for n in range(2)]
    assert added == [201, 413]
