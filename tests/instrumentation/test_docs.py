"""The page about embedding begins with three lines, and with what they give."""

import asyncio
import re
from typing import Any

from tests.embedding.applications import PAGES, example
from tests.instrumentation.scraping import counts, scrape_asgi
from tests.web.asgi import call


def series(text: str) -> set[str]:
    """The samples' names and labels, but for the id of a run."""
    lines = (line for line in text.splitlines() if line and not line.startswith("#"))
    return {re.sub(r'(instance_id=)"\w+"', r"\1", line.rpartition("}")[0] or line.split()[0]) for line in lines}


def test_the_three_lines_give_the_scrape_that_is_shown() -> None:
    names: dict[str, Any] = {"__name__": "example"}
    exec(example("Three lines"), names)
    for number in range(3):
        assert asyncio.run(call(names["app"], "GET", f"/items/{number}")).body == f'{{"id":{number}}}'.encode()
    (shown,) = re.findall(r"```text\n(http_server_.*?)```", PAGES[1], re.DOTALL)
    scraped = scrape_asgi(names["app"])
    assert len(series(shown)) == 6
    assert series(shown) <= series(scraped)
    assert counts(scraped) == {("GET", "/items/{id}", "200", ""): 3}
    assert re.search(r"^http_server_request_duration_seconds_count.* 3$", shown, re.MULTILINE)
