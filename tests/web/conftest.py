"""The program, and a log that a test can read, as fixtures."""

from tests.server.conftest import starts, story

__all__ = ["starts", "story"]
