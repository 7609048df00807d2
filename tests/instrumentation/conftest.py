"""Applications whose metrics are shared."""

from tests.embedding.conftest import serve_app

__all__ = ["serve_app"]
