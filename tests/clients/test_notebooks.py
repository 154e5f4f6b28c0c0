"""What notebooks and terminals show: variables with their graphs, pictures, progress."""

from __future__ import annotations

import shutil
import sys
from typing import Any

import pytest

import engine
import pullback
from pullback import Variable
from pullback import functions as F


def test_a_variable_in_a_notebook(connected: pullback.Connection) -> None:
    x = Variable([1.0, 2.0], name="x<1>")
    shown = F.sin(x)._repr_html_()
    assert "variable([0.8414" in shown and "shape (2,), float64" in shown
    assert "x&lt;1&gt;" in x._repr_html_()
    assert ("</svg>" in shown) is (shutil.which("dot") is not None)


def test_a_picture(connected: pullback.Connection) -> None:
    x = Variable(3.0, name="x")
    y = x * x
    assert pullback.dot(y).startswith("digraph g {") and '"x"' in pullback.dot(y)
    assert "9.0" in pullback.dot(y, verbose=True)


def test_the_same_picture_as_locally(connected: pullback.Connection) -> None:
    def drawn(library: Any) -> str:
        x = library.Variable(3.0, name="x")
        return str(library.dot(library.functions.exp(library.functions.sin(x)), verbose=True))

    assert drawn(pullback) == drawn(engine)


def test_progress(connected: pullback.Connection, capsys: pytest.CaptureFixture[str]) -> None:
    w = Variable(4.0)
    steps = pullback.progress(21, every=10, mininterval=0, miniters=1, file=sys.stderr)
    for _ in steps:
        loss = w * w
        loss.backward()
        w.data = w.data - 0.25 * w.grad.data
        w.cleargrad()
        steps.show(loss, twice=2.0)
    shown = capsys.readouterr().err
    assert "21/21" in shown
    assert "loss=16" in shown and "twice=2" in shown
    assert "loss=4," not in shown


def test_progress_goes_through_anything(connected: pullback.Connection) -> None:
    assert list(pullback.progress("abc", disable=True)) == ["a", "b", "c"]


def test_progress_without_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tqdm", None)
    with pytest.raises(ImportError, match=r"pip install .*progress"):
        pullback.progress(3)
