"""The server of the tests of the wire contract."""

from tests.app.conftest import server

__all__ = ["server"]
