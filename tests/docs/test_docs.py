"""The documentation: every snippet of a page gives what the page says."""

from __future__ import annotations

import doctest
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"
PAGES = sorted(DOCS.glob("*.md"))
#: Lines of the page that tells the machine: it is to be read at one sitting.
MOST_LINES = 140


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_snippets_run(page: Path) -> None:
    failed, _ = doctest.testfile(str(page), module_relative=False, optionflags=doctest.NORMALIZE_WHITESPACE)
    assert not failed


def test_the_machine_has_snippets_and_fits_a_few_screens() -> None:
    text = (DOCS / "how-it-works.md").read_text()
    assert text.count(">>> ") > 30
    assert len(text.splitlines()) <= MOST_LINES
