"""`make pin`: digests of the images, by a program that asks the registry."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.deploy.dockerfile import BASE, parse
from tools.pins import FILES, images, main, pinned

ROOT = Path(__file__).parents[2]
DIGEST = "sha256:" + "0123456789abcdef" * 4
#: Stand-ins for the programs that ask.
PROGRAMS = {
    "crane": f'test "$1" = digest && echo {DIGEST}',
    "docker": f"""test "$1 $2 $3" = "buildx imagetools inspect" && echo '{{"digest": "{DIGEST}", "size": 1}}'""",
}


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the files, and a path on which nothing is installed."""
    for name in FILES:
        shutil.copy2(ROOT / name, tmp_path / name)
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    return tmp_path


def install(checkout: Path, name: str, code: str) -> None:
    (checkout / "bin" / name).write_text(f"#!/bin/sh\n{code}\n")
    (checkout / "bin" / name).chmod(0o755)


@pytest.mark.parametrize("program", PROGRAMS)
def test_every_image_gets_its_digest(checkout: Path, program: str) -> None:
    install(checkout, program, PROGRAMS[program])
    for _ in range(2):  # what is pinned can be pinned anew
        assert main(checkout) == 0
        texts = [(checkout / name).read_text() for name in FILES]
        assert [text.count(f"@{DIGEST}") for text in texts] == [len(images(text)) for text in texts]
        bases = [step.value.partition(" AS ")[0] for step in parse(texts[0]) if step.name == "FROM"]
        assert all(BASE.fullmatch(base) for base in bases)


@pytest.mark.parametrize(
    ("program", "code", "said"),
    [
        ("true", "", "crane is needed, or docker with buildx, and a network"),
        ("crane", "echo no route to registry >&2; exit 1", "crane digest caddy:"),
        ("crane", "echo latest", "expected sha256: and 64 hexadecimal digits"),
    ],
)
def test_what_cannot_be_asked_is_said_and_changes_nothing(
    checkout: Path, capsys: pytest.CaptureFixture[str], program: str, code: str, said: str
) -> None:
    install(checkout, program, code)
    assert main(checkout) == 1
    assert said in capsys.readouterr().err
    assert [(checkout / name).read_text() for name in FILES] == [(ROOT / name).read_text() for name in FILES]


def test_only_images_are_pinned() -> None:
    text = "FROM a/b:1.2 AS build\nCOPY --from=build x y\n    image: own\n    image: c:3 # why\n# image: d:4\n"
    assert images(text) == ["a/b:1.2", "c:3"]
    assert pinned(text, lambda image: DIGEST).count(DIGEST) == 2
