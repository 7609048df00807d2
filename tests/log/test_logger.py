"""Every log call writes one line, a JSON object or text, whatever was logged."""

import json
import logging
import os
import pty
import re
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from enum import IntEnum, StrEnum
from pathlib import Path
from typing import Any

import pytest
from structlog.contextvars import bound_contextvars

from stator.log.logger import LoggerConfig, bind, new_id, unbind
from stator.log.stdlib import adopt_stdlib
from stator.log.writer import Sink
from stator.settings.declare import Secret
from stator.settings.masking import KnownSecrets
from tests.captured_log import CapturedLog

CUT, MASK = "--truncated--", "--redacted--"
# DEL, C1 controls, line separators and bidirectional controls.
UNSAFE = "".join(
    map(chr, (0x7F, *range(0x80, 0xA0), 0x61C, 0x200E, 0x200F, *range(0x2028, 0x202F), *range(0x2066, 0x206A)))
)

Writes = Callable[..., CapturedLog]


@pytest.fixture
def writes(tmp_path: Path) -> Iterator[Writes]:
    with ExitStack() as open_:

        def make(config: LoggerConfig | None = None, *, terminal: bool = False) -> CapturedLog:
            path = tmp_path / ("terminal" if terminal else "log")
            return open_.enter_context(CapturedLog(path, config or LoggerConfig(), terminal=terminal))

        yield make


@pytest.fixture
def written(writes: Writes) -> CapturedLog:
    return writes()


@pytest.fixture
def adopted(written: CapturedLog) -> Iterator[CapturedLog]:
    """A log to which the standard library's logging goes, until the test is over."""
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    adopt_stdlib(written.log)
    yield written
    logging.captureWarnings(capture=False)
    root.handlers = handlers
    root.setLevel(level)


def test_ids_stand_first_then_the_fields_as_they_were_given(written: CapturedLog) -> None:
    log = written.log.bind(zebra=1, request_id="r", worker_id="w", run_id="x", app_id="stator")
    log.info("hello", path="/", ant=2)
    assert list(written.line) == (
        ["ts", "level", "msg", "app_id", "run_id", "worker_id", "request_id", "zebra", "path", "ant"]
    )


def test_a_line_has_its_time_in_utc_with_a_fraction(written: CapturedLog) -> None:
    before = datetime.now(UTC)
    written.log.info("now")
    stamp = written.line["ts"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", stamp)
    assert before <= datetime.fromisoformat(stamp) <= datetime.now(UTC)


@pytest.mark.parametrize(
    ("length", "logged"),
    [(999, "a" * 986 + CUT), (14, "a" + CUT), (13, CUT), (5, CUT), (1, CUT), (0, "a" * 2000)],
)
def test_a_field_is_truncated_at_its_greatest_length(writes: Writes, length: int, logged: str) -> None:
    written = writes(LoggerConfig(max_len=length))
    written.log.info("long", text="a" * 2000, body=b"a" * 2000)
    assert written.line["text"] == written.line["body"] == logged


def test_a_field_that_fits_is_not_truncated(writes: Writes) -> None:
    written = writes(LoggerConfig(max_len=20))
    written.log.info("short", text="a" * 20, body="ä".encode() * 20, nested=["b" * 16])
    assert (written.line["text"], written.line["body"]) == ("a" * 20, "ä" * 20)
    assert json.loads(written.line["nested"]) == ["b" * 16]


def test_the_message_and_nested_values_are_truncated_too(writes: Writes) -> None:
    written = writes(LoggerConfig(max_len=20))
    written.log.info("m" * 50, nested={"key": "v" * 50})
    assert written.line["msg"] == "m" * 7 + CUT
    assert written.line["nested"] == '{"key":' + CUT


def test_truncation_does_not_split_a_character(writes: Writes) -> None:
    written = writes(LoggerConfig(max_len=20))
    written.log.info("long", body="€".encode() * 1000)
    assert written.line["body"] == "€" * 7 + CUT


def test_numbers_booleans_and_none_stay_what_they_are(written: CapturedLog) -> None:
    written.log.info("plain", whole=-3, fraction=0.1, true=True, nothing=None, large=2**63 - 1)
    line = written.line
    assert (line["whole"], line["fraction"], line["true"], line["nothing"]) == (-3, 0.1, True, None)
    assert line["large"] == 2**63 - 1


def test_nested_values_are_json_in_a_string(written: CapturedLog) -> None:
    written.log.info("nested", headers={"Accept": ["*/*"]}, query={}, pairs=(("a", 1),), keys={1: None})
    line = written.line
    assert line["headers"] == '{"Accept":["*/*"]}'
    assert (line["query"], line["pairs"], line["keys"]) == ("{}", '[["a",1]]', '{"1":null}')


def test_bytes_are_decoded_and_those_that_are_not_utf_8_replaced(written: CapturedLog) -> None:
    written.log.info("bytes", body="Zürich".encode(), other=bytearray(b"a\xffb"), view=memoryview(b"v"), none=b"")
    line = written.line
    assert (line["body"], line["other"], line["view"], line["none"]) == ("Zürich", "a\ufffdb", "v", "")


def test_odd_values_make_a_line_of_json(written: CapturedLog) -> None:
    circle: list[object] = []
    circle.append(circle)
    written.log.info(
        "lone \udcff",
        path="/\udcff",
        nested={"a": "\udcff"},
        huge=2**70,
        nested_huge=[2**70],
        circle=circle,
        unknown=object,
        nan=float("nan"),
        newline="a\nb\x00",
    )
    line = written.line
    assert (line["msg"], line["path"]) == ("lone \\udcff", "/\\udcff")
    assert (line["huge"], line["nested_huge"]) == (str(2**70), f"[{2**70}]")
    assert "\\udcff" in line["nested"]
    assert line["newline"] == "a\nb\x00"


def test_a_secret_is_redacted_wherever_it_is_logged(written: CapturedLog) -> None:
    written.log.info("secret", token=Secret("hunter2"), nested={"token": Secret("hunter2")})
    assert "hunter2" not in written.text
    assert "--redacted--" in written.line["token"]


def test_an_error_has_its_type_message_and_traceback(written: CapturedLog) -> None:
    try:
        raise LookupError("nobody here")  # noqa: EM101, TRY003, TRY301
    except LookupError as error:
        written.log.error("failed", error=error)
    fields = written.line["error"]
    assert (fields["type"], fields["message"]) == ("LookupError", "nobody here")
    assert "test_logger.py" in fields["traceback"]
    assert "test_an_error_has_its_type_message_and_traceback" in fields["traceback"]
    assert "cause" not in fields


def test_a_truncated_traceback_still_names_where_it_happened(writes: Writes) -> None:
    def deep(levels: int) -> None:
        if levels:
            deep(levels - 1)
        msg = "at the bottom"
        raise ValueError(msg)

    written = writes(LoggerConfig(max_len=300))
    try:
        deep(50)
    except ValueError as error:
        written.log.error("failed", error=error)
    fields = written.line["error"]
    assert len(fields["traceback"]) == 300
    assert "raise ValueError(msg)" in fields["traceback"].splitlines()[0]


def test_an_error_whose_message_raises_is_logged(written: CapturedLog) -> None:
    class MuteError(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    written.log.error("failed", error=MuteError())
    assert written.line["error"]["type"].endswith("MuteError")
    assert "RuntimeError" in written.line["error"]["message"]


def test_an_error_names_its_cause(written: CapturedLog) -> None:
    try:
        try:
            os.stat("/nonexistent")  # noqa: PTH116
        except OSError as inner:
            msg = "outer"
            raise RuntimeError(msg) from inner
    except RuntimeError as error:
        written.log.error("failed", error=error)
    assert written.line["error"]["cause"].startswith("FileNotFoundError")


def raised(error: BaseException) -> BaseException:
    """An error with a traceback."""
    try:
        raise error  # noqa: TRY301
    except BaseException as caught:  # noqa: BLE001
        return caught


def group(*errors: Exception) -> ExceptionGroup[Exception]:
    return ExceptionGroup("several", errors)


def test_a_group_of_errors_has_the_tracebacks_of_its_members(writes: Writes) -> None:
    first, second = raised(LookupError("nobody here")), raised(ValueError("no number"))
    assert isinstance(first, Exception)
    assert isinstance(second, Exception)
    error = raised(group(first, group(second)))
    written, shown = writes(), writes(terminal=True)
    for log in (written.log, shown.log):
        log.error("failed", error=error)
    fields = written.line["error"]
    assert (fields["type"], fields["message"]) == ("ExceptionGroup", "several (2 sub-exceptions)")
    assert [(each["type"], each["message"]) for each in fields["exceptions"]] == [
        ("LookupError", "nobody here"),
        ("ValueError", "no number"),
    ]
    assert all("in raised: raise error" in each["traceback"] for each in fields["exceptions"])
    for text in ("several (2 sub-exceptions)", "\nLookupError: nobody here\n", "\nValueError: no number\n"):
        assert text in shown.text
    assert shown.text.count("in raised: raise error") == 3


def test_a_large_group_of_errors_makes_a_line_of_bounded_length(written: CapturedLog) -> None:
    deep = group(*[ValueError(str(nth)) for nth in range(1000)])
    for _ in range(2000):
        deep = group(deep)
    written.log.error("failed", error=deep)
    assert [each["message"] for each in written.line["error"]["exceptions"]] == [str(nth) for nth in range(10)]


def test_known_secrets_are_masked_in_messages_fields_bodies_and_errors(tmp_path: Path) -> None:
    secrets = KnownSecrets([Secret('hun"ter2')])
    with CapturedLog(tmp_path / "masked", LoggerConfig(max_len=0), secrets=secrets) as written:
        try:
            try:
                int('hun"ter2')
            except ValueError as inner:
                msg = 'not hun"ter2'
                raise RuntimeError(msg) from inner
        except RuntimeError as error:
            nested = {"a": ['hun"ter2', "http://me:pw@b"]}
            written.log.error('lost hun"ter2', error=error, body=b'x hun"ter2', nested=nested, short='hun"ter2')
    line = written.line
    assert "ter2" not in written.text
    assert (line["msg"], line["body"], line["short"]) == (f"lost {MASK}", f"x {MASK}", MASK)
    assert json.loads(line["nested"]) == {"a": [MASK, f"http://{MASK}@b"]}
    assert line["error"]["message"] == f"not {MASK}"


@pytest.mark.parametrize("before", range(85, 100))
def test_nothing_is_left_of_a_secret_that_truncation_goes_through(tmp_path: Path, before: int) -> None:
    secrets = KnownSecrets([Secret("hunter2-" * 20)])
    text = "hunter2-" * 20 + "." * before + "hunter2-" * 20 + "http://me:geheim@host/" + "." * 9999
    with CapturedLog(tmp_path / "masked", LoggerConfig(max_len=110), secrets=secrets) as written:
        written.log.info("cut", text=text, body=text.encode())
    assert written.line["text"] == written.line["body"]
    assert written.line["text"].endswith(CUT)
    assert "hunter" not in written.text
    assert "geheim" not in written.text


def test_events_below_the_level_are_not_logged(writes: Writes) -> None:
    written = writes(LoggerConfig(level="warning"))
    for level in ("debug", "info", "warning", "error"):
        getattr(written.log, level)(level)
    assert [(line["level"], line["msg"]) for line in written.lines] == [("warning", "warning"), ("error", "error")]


def test_fields_bound_to_a_context_are_on_every_line_of_it_alone(written: CapturedLog) -> None:
    token = bind(request_id="one")
    written.log.info("inside")
    other = threading.Thread(target=written.log.info, args=("elsewhere",))
    other.start()
    other.join()
    unbind(token)
    written.log.info("after")
    assert [line.get("request_id") for line in written.lines] == ["one", None, None]


class Mute:
    """An object whose repr raises."""

    def __repr__(self) -> str:
        raise ZeroDivisionError


class Colour(StrEnum):
    RED = "red"


class Level(IntEnum):
    HIGH = 3


class Contrary(str):
    """A text of a type of its own, one of whose methods raises."""

    def isascii(self) -> bool:
        raise ZeroDivisionError


class Reading(float):
    """A float of a type of its own, as NumPy's are."""


def nested(depth: int) -> object:
    value: object = []
    for _ in range(depth):
        value = [value]
    return value


CYCLE: list[object] = []
CYCLE.append(CYCLE)
RELEASED = memoryview(b"x")
RELEASED.release()

ODD: dict[str, object] = {
    "a lone surrogate": "\ud800",
    "one in a key": {"\ud800": 1},
    "an integer beyond 64 bits": 10**40,
    "a class": object,
    "bytes that are not UTF-8": b"\xff",
    "an error": KeyError("k"),
    "not a number": float("nan"),
    "a float of its own type": Reading(1.5),
    "a repr that raises": Mute(),
    "one in a list": [Mute()],
    "nested too deep": nested(5000),
    "an integer of 5,000 digits": 10**5000,
    "one in a tuple": (10**5000,),
    "a key that is no text": {(1, 2): 3, None: 4, Mute(): 5},
    "a cycle": CYCLE,
    "a set": {1},
    "an enum's member": Colour.RED,
    "a text of its own type": Contrary("/x"),
    "a released buffer": RELEASED,
}


@pytest.mark.parametrize("terminal", [False, True])
@pytest.mark.parametrize("what", ODD)
def test_odd_values_bound_or_logged_make_a_line(writes: Writes, what: str, *, terminal: bool) -> None:
    message: Any = ODD[what]
    written = writes(terminal=terminal)
    with bound_contextvars(context=ODD[what]):
        written.log.bind(bound=ODD[what]).info("hello", level=ODD[what], msg=ODD[what], given=ODD[what])
        written.log.info(message, exception=ODD[what], stack=ODD[what], exc_info=ODD[what])
    assert written.text.count("hello") == 1
    assert [written.text.count(name) for name in ("context", "given")] == [2, 1]
    if not terminal:
        assert [line["level"] for line in written.lines] == ["info", "info"]


def test_numbers_and_texts_of_their_own_types_are_plain_ones(written: CapturedLog) -> None:
    written.log.info("read", value=Reading(1.5), level_=Level.HIGH, colour=Colour.RED, path=Path("/x y"))
    line = written.line
    assert (line["value"], line["level_"], line["colour"], line["path"]) == (1.5, 3, "red", "/x y")


def test_ids_are_never_truncated(writes: Writes) -> None:
    written = writes(LoggerConfig(max_len=2))
    token = bind(request_id="request")
    written.log.bind(app_id="stator", bound="stator").info("hello")
    unbind(token)
    line = written.line
    assert (line["app_id"], line["request_id"], line["bound"]) == ("stator", "request", CUT)


def test_fields_bound_to_a_logger_win_over_those_bound_to_the_context(written: CapturedLog) -> None:
    log = written.log.bind(app_id="stator", request_id="own")
    token = bind(worker_id="w", request_id="other")
    written.log.info("one")
    log.info("two")
    written.log.info("three")
    unbind(token)
    assert [line.get("request_id") for line in written.lines] == ["other", "own", "other"]
    assert [line.get("app_id") for line in written.lines] == [None, "stator", None]


def test_records_of_libraries_become_lines(adopted: CapturedLog) -> None:
    logging.getLogger("some.library").warning("%d left", 3)
    logging.getLogger("some.library").info("below the level")
    try:
        1 / 0  # noqa: B018
    except ZeroDivisionError:
        logging.getLogger("some.library").exception("failed")
    first, second = adopted.lines
    assert (first["level"], first["msg"], first["logger"]) == ("warning", "3 left", "some.library")
    assert (second["level"], second["msg"], second["error"]["type"]) == ("error", "failed", "ZeroDivisionError")


@pytest.mark.parametrize(
    ("number", "level"), [(30, "warning"), (35, "warning"), (40, "error"), (50, "critical"), (99, "critical")]
)
def test_a_librarys_own_levels_become_the_next_lower_of_ours(adopted: CapturedLog, number: int, level: str) -> None:
    logging.getLogger("some.library").log(number, "hello")
    assert adopted.line["level"] == level


def test_a_record_whose_arguments_do_not_fit_is_logged(adopted: CapturedLog) -> None:
    adopt_stdlib(adopted.log)  # alone: pytest's own handler raises
    logging.getLogger("some.library").warning("%d left of \udcff", "none")
    assert adopted.line["msg"] == "%d left of \\udcff ('none',)"


def test_pythons_warnings_are_logged(adopted: CapturedLog) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(capture=False)
        logging.captureWarnings(capture=True)
        warnings.warn("this will go away", DeprecationWarning, stacklevel=1)
    line = adopted.line
    assert (line["level"], line["logger"]) == ("warning", "py.warnings")
    assert "DeprecationWarning: this will go away" in line["msg"]


@pytest.mark.parametrize(("format_", "terminal"), [("auto", True), ("text", False)])
def test_text_has_its_fields_in_order_and_colours(writes: Writes, format_: Any, terminal: bool) -> None:
    written = writes(LoggerConfig(format=format_), terminal=terminal)
    written.log.bind(app_id="stator").warning("careful", path="/x y", count=3, nested={"a": [1]}, body=b"b")
    (line,) = written.text.splitlines()
    plain = re.sub(r"\x1b\[\d*m", "", line)
    assert plain != line
    assert re.match(r"\d{4}-.*Z \[warning *\] careful +app_id=stator path='/x y' count=3 ", plain)
    assert plain.endswith("""nested='{"a":[1]}' body=b""")


def test_the_format_json_is_json_on_a_terminal_too(writes: Writes) -> None:
    written = writes(LoggerConfig(format="json"), terminal=True)
    written.log.info("hello")
    assert written.line["msg"] == "hello"


def test_an_error_in_text_has_its_traceback_below(writes: Writes) -> None:
    written = writes(LoggerConfig(format="text"))
    try:
        1 / 0  # noqa: B018
    except ZeroDivisionError as error:
        written.log.error("failed", error=error)
    line, frame = written.text.splitlines()
    assert "ZeroDivisionError: division by zero" in line
    assert re.fullmatch(r".*test_logger.py:\d+ in .*", frame)


def test_no_client_can_send_commands_to_the_terminal(writes: Writes) -> None:
    written = writes(LoggerConfig(format="text"))
    written.log.info("request \x1b[2J", path="/\x1b]0;owned\x07", body=b"a\nfake line\x9b2J\x7f", nested=["\x1b"])
    (line,) = written.text.splitlines()
    without_colours = re.sub(r"\x1b\[\d*m", "", line)
    assert without_colours.isprintable()
    assert "/␛]0;owned␇" in without_colours


def test_no_control_character_passes_through_json(written: CapturedLog) -> None:
    written.log.info(UNSAFE, path=f"/{UNSAFE}", nested=[UNSAFE], body=UNSAFE.encode(), **{f"name{UNSAFE}": 1})
    assert written.text.rstrip("\n").isascii()
    assert not set(written.text) & set(UNSAFE)
    line = written.line
    assert (line["msg"], line["path"], line["body"]) == (UNSAFE, f"/{UNSAFE}", UNSAFE)
    assert json.loads(line["nested"]) == [UNSAFE]
    assert line[f"name{UNSAFE}"] == 1


def test_no_control_character_passes_through_text(writes: Writes) -> None:
    written = writes(LoggerConfig(format="text"))
    error = ValueError(UNSAFE)
    written.log.info(UNSAFE, path=f"/{UNSAFE}", other=f"{UNSAFE} {UNSAFE}", error=error, **{f"name{UNSAFE}": 1})
    assert not set(written.text) & set(UNSAFE)
    assert all(f"\\u{code:04x}" in written.text for code in (0x7F, 0x9B, 0x2028, 0x202E, 0x2066))


def test_other_letters_stay_as_they_are(written: CapturedLog) -> None:
    written.log.info("Zürich, 東京, שלום")
    assert "Zürich, 東京, שלום" in written.text


def test_a_terminal_gets_text(tmp_path: Path) -> None:
    leader, follower = pty.openpty()
    try:
        log = LoggerConfig().build(Sink(follower), terminal=os.isatty(follower))
        log.info("hello", name="you")
        assert re.search(rb"\x1b\[.*hello.*name.*you.*\r\n", os.read(leader, 1000))
    finally:
        os.close(leader)
        os.close(follower)


def test_ids_are_seven_letters_or_digits_and_differ() -> None:
    ids = {new_id() for _ in range(1000)}
    assert len(ids) == 1000
    assert all(re.fullmatch(r"[a-zA-Z0-9]{7}", each) for each in ids)
