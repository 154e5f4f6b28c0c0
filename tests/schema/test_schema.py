"""Requests at the bounds of the OpenAPI document; `make schema` has random ones and whole stories too."""

import pytest

from tests.schema.__main__ import main


@pytest.mark.thorough
def test_a_server_with_keys_does_what_its_document_says() -> None:
    assert main(["--phases", "examples,coverage", "--no-color"], kinds=[True]) == 0
