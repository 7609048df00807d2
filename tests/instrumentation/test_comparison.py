"""The tables of docs/metrics.md say what four workers of Stator and of its peers show, cell by cell."""

from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.instrumentation.compared import PEERS
from tests.instrumentation.comparison import OURS, PAGE, column, shown
from tests.program import cannot

SHOWN = shown(PAGE.read_text("utf-8"))


def test_the_tables_have_all_peers() -> None:
    assert [list(each) for each in SHOWN] == [[OURS, *PEERS], [*PEERS]]


@pytest.mark.parametrize("title", [OURS, *PEERS])
def test_the_table_says_what_is_shown(title: str, tmp_path: Path) -> None:
    need(title)
    assert column(title, tmp_path, has_folder=True) == SHOWN[0][title], (
        "to write it: python -m tests.instrumentation.comparison"
    )


@pytest.mark.parametrize("title", PEERS)
def test_the_table_says_what_is_shown_without_a_folder(title: str, tmp_path: Path) -> None:
    need(title)
    assert column(title, tmp_path, has_folder=False) == SHOWN[1][title]


def need(title: str) -> None:
    """Ends the test where the package is not there."""
    package = title.replace("-", "_").lower()
    if find_spec(package) is None:
        cannot(f"{title} is not installed: make test installs it")
