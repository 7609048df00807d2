"""The output of a wrapped program as lines of the log."""

import errno
import json
import os
import sys
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from stator.child.output import LONGEST_LINE, OutputLog, Stream
from stator.log.render import TRUNCATED
from tests.program import Program, eventually

JSON = {"STTR_CHILD_LOG": "json", "STTR_LOGGER_MAXLEN": "2000"}


def run(tmp_path: Path, code: str, **env: str) -> list[dict[str, Any]]:
    """What a script in Python writes, as Stator logs it."""
    with Program({**JSON, **env}, tmp_path, args=("--", sys.executable, "-uc", code)) as program:
        assert program.ended() == 0, program.errors
        return [json.loads(line) for line in program.stdout.read_bytes().splitlines()]


def messages(lines: Iterable[dict[str, Any]]) -> list[tuple[str, str]]:
    return [(line["stream"], line["msg"]) for line in lines]


def test_each_line_is_one_of_ours(tmp_path: Path) -> None:
    code = (
        "import sys\nfor i in range(3): print('line', i)\nprint('an error', file=sys.stderr); print('no end', end='')"
    )
    lines = run(tmp_path, code)
    assert sorted(messages(lines)) == [
        ("stderr", "an error"),
        ("stdout", "line 0"),
        ("stdout", "line 1"),
        ("stdout", "line 2"),
        ("stdout", "no end"),
    ]
    assert {tuple(line) for line in lines} == {("ts", "level", "msg", "app_id", "run_id", "stream")}
    assert {(line["level"], line["app_id"]) for line in lines} == {("info", "stator")}


def test_a_line_that_is_json_keeps_its_fields(tmp_path: Path) -> None:
    objects: list[dict[str, Any]] = [
        {"level": "WARN", "msg": "slow", "elapsed": 1.5, "tags": ["a", {"b": None}], "ts": 17, "stream": "x"},
        {"message": "other name", "n": 2**70},
        {},
    ]
    lines = run(tmp_path, f"import json\nfor each in {objects!r}: print(json.dumps(each))\nprint('{{no json}}')")
    own = [{name: each[name] for name in each if name not in ("ts", "app_id", "run_id")} for each in lines]
    assert own == [
        {
            "level": "warn",
            "msg": "slow",
            "stream": "stdout",
            "elapsed": 1.5,
            "tags": ["a", {"b": None}],
            "ts_": 17,
            "stream_": "x",
        },
        {"level": "info", "msg": "other name", "stream": "stdout", "n": 2**70},
        {"level": "info", "msg": "", "stream": "stdout"},
        {"level": "info", "msg": "{no json}", "stream": "stdout"},
    ]


def test_a_traceback_is_one_line_and_so_are_lines_that_are_indented(tmp_path: Path) -> None:
    code = (
        "import traceback\n"
        "print('before')\n"
        "try: 1 / 0\n"
        "except ZeroDivisionError: print(traceback.format_exc(), end='')\n"
        "print('after')\n"
        "print('java.lang.Error: x\\n\\tat A.b(A.java:1)\\nCaused by: y\\n\\tat C.d(C.java:2)')\n"
        "print('end')\n"
    )
    found = [msg for _, msg in messages(run(tmp_path, code))]
    assert found[0] == "before"
    assert found[1].startswith("Traceback (most recent call last):\n  File")
    assert found[1].endswith("\nZeroDivisionError: division by zero")
    assert found[2:] == ["after", "java.lang.Error: x\n\tat A.b(A.java:1)\nCaused by: y\n\tat C.d(C.java:2)", "end"]


def test_a_line_of_ten_megabytes_is_cut_and_the_next_is_whole(tmp_path: Path) -> None:
    code = "print('x' * 10_000_000)\nprint('{\"msg\": \"' + 'y' * 10_000_000 + '\"}')\nprint('next')"
    first, second, last = messages(run(tmp_path, code))
    assert first == ("stdout", "x" * (2000 - len(TRUNCATED)) + TRUNCATED)
    assert second[1].endswith(TRUNCATED)
    assert len(second[1]) == 2000
    assert last == ("stdout", "next")


def test_long_fields_of_json_are_cut(tmp_path: Path) -> None:
    code = "import json; print(json.dumps({'msg': 'm' * 3000, 'long': 'l' * 3000, 'list': ['x'] * 3000, 'n': 1}))"
    (line,) = run(tmp_path, code)
    assert {len(line[name]) for name in ("msg", "long", "list")} == {2000}
    assert line["n"] == 1


def test_nothing_is_lost_of_much_output_at_the_end(tmp_path: Path) -> None:
    code = "import sys\nfor i in range(50_000): print(i, file=(sys.stdout, sys.stderr)[i % 2])\nimport os; os._exit(0)"
    lines = run(tmp_path, code.replace("-u", ""))
    assert sorted(int(line["msg"]) for line in lines) == [*range(50_000)]
    for stream in ("stdout", "stderr"):
        numbers = [int(line["msg"]) for line in lines if line["stream"] == stream]
        assert numbers == sorted(numbers)


def test_bytes_that_are_no_text_and_characters_that_steer_terminals_are_written_out(tmp_path: Path) -> None:
    code = "import sys; sys.stdout.buffer.write(b'\\xff\\xfe caf\\xc3\\xa9\\r\\n\\x1b[2J\\xe2\\x80\\xae\\n')"
    run_lines = run(tmp_path, code)
    assert [msg for _, msg in messages(run_lines)] == ["\\xff\\xfe café", "\x1b[2J\u202e"]
    assert b"\x1b" not in (tmp_path / "stdout").read_bytes()
    assert "\u202e" not in (tmp_path / "stdout").read_text()


def test_an_object_that_is_not_utf_8_is_a_text(tmp_path: Path) -> None:
    code = (
        """import sys; sys.stdout.buffer.write(b'{"level":"info","msg":"m","name":"Andr\\xe9"}\\n{"msg":"next"}\\n')"""
    )
    assert [msg for _, msg in messages(run(tmp_path, code))] == [
        r'{"level":"info","msg":"m","name":"Andr\xe9"}',
        "next",
    ]


def test_what_is_nested_too_deep_is_a_text_and_the_rest_follows(tmp_path: Path) -> None:
    code = "print('{\"a\":' + '[' * 1500 + ']' * 1500 + '}')\nfor i in range(20_000): print('x' * 50)"
    first, *rest = messages(run(tmp_path, code))
    assert first[1].startswith('{"a":[[[')
    assert rest == [("stdout", "x" * 50)] * 20_000


def test_an_object_over_several_lines_is_one_line(tmp_path: Path) -> None:
    (line,) = run(tmp_path, """print('{"level":"info",\\n  "msg":"hello",\\n  "path":"/"}')""")
    assert (line["msg"], line["path"]) == ("hello", "/")


def test_a_line_is_written_though_other_output_goes_on(tmp_path: Path) -> None:
    code = """
import sys, time
print("failed", file=sys.stderr)
for i in range(40): print('{"msg": "other"}'); time.sleep(0.05)
"""
    lines = messages(run(tmp_path, code))
    assert 0 < lines.index(("stderr", "failed")) < 30


def test_lines_that_go_on_for_long_are_written_in_parts(tmp_path: Path) -> None:
    code = "import time\nprint('begins')\nfor i in range(50): print(' goes on'); time.sleep(0.1)"
    assert 1 < len(run(tmp_path, code)) < 10


@pytest.mark.parametrize("part", [0, 10])
def test_after_a_write_that_failed_later_lines_are_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: int
) -> None:
    write, room = os.write, [part, 0]

    def fills_the_disk(fd: int, data: bytes) -> int:
        if not room or threading.current_thread().name != "output":
            return write(fd, data)
        if count := room.pop(0):
            return write(fd, data[:count])
        room.clear()
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(os, "write", fills_the_disk)
    (stdout, into), (stderr, end) = os.pipe(), os.pipe()
    os.close(end)
    log = tmp_path / "log"
    with log.open("wb") as file, os.fdopen(stdout, "rb") as out, os.fdopen(stderr, "rb") as err:
        output = OutputLog(file.fileno(), "shop", "RUN", 999)
        output.start(out, err)
        write(into, b'{"msg":"lost"}\n')
        eventually(lambda: not room)
        write(into, b'{"msg":"there"}\n')
        os.close(into)
        output.finish()
    *cut, line = log.read_bytes().splitlines()
    assert [len(each) for each in cut] == ([part] if part else [])
    assert json.loads(line)["msg"] == "there"


def test_a_line_is_written_though_the_next_does_not_come(tmp_path: Path) -> None:
    code = "import time; print('first'); print('no line feed', end='', flush=True); time.sleep(600)"
    with Program(JSON, tmp_path, args=("--", sys.executable, "-uc", code)) as program:
        program.wait_for("program started")
        while b"first" not in program.stdout.read_bytes():
            assert program.get("/monitor").status == 200
        assert program.stop() == 143
        assert b'"msg":"no line feed"' in program.stdout.read_bytes()


def test_it_goes_on_when_nobody_reads_the_log_any_longer(tmp_path: Path) -> None:
    read, write = os.pipe()
    code = "import sys\nfor i in range(100_000): print(i)\nopen('done', 'w').close()"
    with Program(JSON, tmp_path, args=("--", sys.executable, "-c", code), stdout=write) as program:
        os.close(write)
        os.close(read)
        assert program.ended() == 0
    assert (tmp_path / "done").exists()


@pytest.mark.parametrize("size", [1, 7, 64, 1 << 20])
def test_it_does_not_matter_in_which_parts_output_comes(size: int) -> None:
    data = b'one\n  more\n{"msg":"two"}\n\nTraceback (most recent call last):\n  File\nError\nthree\r\nfour'
    stream = Stream("stdout")
    found = [line for at in range(0, len(data), size) for line in stream.feed(data[at : at + size])]
    found += stream.end()
    assert found == [
        b"one\n  more",
        b'{"msg":"two"}',
        b"Traceback (most recent call last):\n  File\nError",
        b"three",
        b"four",
    ]


def test_memory_is_bounded_whatever_comes() -> None:
    stream = Stream("stdout")
    for _ in range(200):
        assert [*stream.feed(b"x" * 100_000)] == []
    (line,) = (each for each in [*stream.feed(b"\n"), *stream.end()])
    assert len(line) <= LONGEST_LINE + 200_000
    for _ in range(200):
        assert [*stream.feed(b" continued" * 10_000 + b"\n")] == [] or True
    assert sum(map(len, stream.pause())) <= LONGEST_LINE + 200_000
