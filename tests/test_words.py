"""The source speaks the field's language: none of the names that only its authors knew, and few of their words."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = sorted((ROOT / "stator").rglob("*.py"))
# What classes, functions and methods were called once, by the name that the field has for each.
RENAMED = {
    "Station": "SingleFlight",
    "Prompt": "NonBlockingCollector",
    "never_waits": "is_nonblocking",
    "NotCollected": "CollectionTimeout",
    "Crew": "DaemonThreads",
    "Round": "gather",
    "hurry": "gather",
    "is_brief": "gather",
    "Ask": "ScrapeRequest",
    "Scrape": "ScrapeResponse",
    "Dialect": "Format",
    "Formatter": "Encoder",
    "Formats": "Negotiator",
    "accepting": "encoder_for",
    "Heads": "SeriesKeys",
    "keys_alike": "same_label_names",
    "uniform": "all_equal",
    "at": "take",
    "Block": "FamilyTemplate",
    "Blocks": "FamilyIndex",
    "refuse_clashes": "check_conflicts",
    "Layout": "Template",
    "Whole": "Template",
    "check": "validate_fast",
    "worst": "explain",
    "shown": "safe_repr",
    "refuse_twice": "check_duplicates",
    "Fields": "LineRenderer",
    "hold": "buffer",
    "let_go": "flush",
    "Lines": "Sink",
    "RequestLog": "AccessLogMiddleware",
    "shown_headers": "redact_headers",
    "bound": "bound_fields",
    "bound_to": "listening_address",
    "answers": "is_serving",
    "Failing": "ErrorKind",
    "failing": "error_kind",
    "reason": "root_cause",
    "_why": "error_fields",
    "why": "error_fields",
    "Answer": "Response",
    "another": "clone",
    "cut": "abort",
    "Opened": "ProcessStat",
    "Table": "SharedTable",
    "Processes": "ServiceProcesses",
    "enter": "register",
    "members": "snapshot",
    "settled": "stable_snapshot",
    "_Own": "_SelfStats",
    "heard": "on_gc",
    "while_kept": "weak_callback",
    "Sight": "Observation",
    "look": "observe",
    "wake": "cancel",
    "State": "RosterMetrics",
    "sent": "accepted",
    "missed": "out_of_sync",
    "left": "wait_stopped",
    "Presence": "Membership",
    "come": "join",
    "beat": "report_now",
    "Agent": "AgentClient",
    "refusals": "translated_errors",
    "places": "scope",
    "_whole": "_url",
    "Run": "CollectorContext",
    "Chosen": "CollectorSelection",
    "extended": "with_plugin_settings",
    "Found": "Plugins",
    "find": "load_plugins",
    "Kind": "SettingType",
    "kind_of": "setting_type",
    "part": "section",
    "Declared": "FieldOptions",
    "declared": "options_of",
    "walk": "iter_settings",
    "Launched": "Loaded",
    "warn": "log_warnings",
    "Starting": "StartupGuard",
    "hold_signals": "block_signals",
    "let_in_no_more": "drop_new_connections",
    "Mounted": "ASGIMount",
    "create": "asgi_app",
    "create_blocking": "wsgi_app",
    "BlockingMetrics": "Metrics",
    "BlockingMonitor": "Monitor",
    "Survey": "StatvfsPool",
    "Troubles": "ChangeLog",
}
# Names that stand for something else now, which is called so.
OTHERS = {
    ("stator/settings/environment.py", "check"),  # of all settings' constraints
    ("stator/exposition/numbers.py", "bound"),  # of a bucket
    ("stator/collectors/wave.py", "at"),  # a moment
    ("stator/collectors/host/family.py", "at"),  # a value
}


def definitions() -> Iterator[tuple[str, str]]:
    """Files, and the names of the classes, functions and methods that each defines."""
    for file in SOURCES:
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                yield file.relative_to(ROOT).as_posix(), node.name


def test_no_definition_has_a_name_of_the_past() -> None:
    assert {each for each in definitions() if each[1] in RENAMED} - OTHERS == set()


def test_only_the_root_class_is_called_config() -> None:
    assert [file for file, name in definitions() if name == "Config"] == ["stator/config.py"]


def test_few_lines_say_what_is_told_or_shown() -> None:
    word = re.compile(r"\b(told|tell|tells|shown|heard)\b")
    lines = [line for file in SOURCES for line in file.read_text("utf-8").splitlines() if word.search(line)]
    assert len(lines) < 15, lines


@pytest.mark.parametrize("file", SOURCES, ids=lambda file: str(file.relative_to(ROOT)))
def test_a_file_is_no_longer_than_can_be_read_in_one_go(file: Path) -> None:
    assert len(file.read_text("utf-8").splitlines()) <= 260
