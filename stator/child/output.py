"""A wrapped program's output as lines of our log: each of its lines, or lines that belong together, is one."""

import errno
import os
import selectors
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from math import inf
from typing import IO, Any

import msgspec
from attrs import define, field

from stator.log.render import TRUNCATED, escape_line

CHUNK = 1 << 16  # bytes that are read at a time
LONGEST_LINE = 1 << 20  # bytes of a line, or of lines that belong together, that are kept
PAUSE = 0.2  # seconds without output of a stream after which its line is complete, though it may go on
LONGEST_PAUSE = 2.0  # seconds after which it is complete, though it does go on
END_TIMEOUT = 5.0  # seconds that the last lines have to be written after the program's end
TRACEBACK = b"Traceback (most recent call last):"
CAUSED_BY = b"Caused by:"
# What the decoder raises: the second for what is nested a thousand times.
NOT_DECODED = (msgspec.DecodeError, RecursionError)
# What every line has; a JSON line's own values get an underscore, but for its level and its message.
OURS = frozenset({"ts", "app_id", "run_id", "stream"})


class Line(msgspec.Struct):
    """A line of text."""

    ts: str
    level: str
    msg: str
    app_id: str
    run_id: str
    stream: str


class Known(msgspec.Struct):
    """The fields of a JSON line that have a meaning; the decoder checks the others, and leaves them as they are."""

    level: str = ""
    msg: str | None = None
    message: msgspec.Raw | None = None
    ts: msgspec.Raw | None = None
    app_id: msgspec.Raw | None = None
    run_id: msgspec.Raw | None = None
    stream: msgspec.Raw | None = None

    @property
    def fits(self) -> bool:
        """Whether a line need not be changed, other than that it gets ours in front."""
        has_ours = self.ts or self.app_id or self.run_id or self.stream
        return self.level.islower() and self.msg is not None and not (has_ours or self.message)


_decode = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_known = msgspec.json.Decoder(Known).decode
_text = msgspec.json.Decoder(str).decode
_encode = msgspec.json.Encoder().encode


@define(eq=False)
class Stream:
    """The lines of one stream, as far as they are known."""

    name: str
    _rest: bytes = field(default=b"", init=False)  # of a line that has not ended
    _is_cut: bool = field(default=False, init=False)  # whether that has lost its end
    _open: list[bytes] = field(factory=list, init=False)  # lines that belong together, and may go on
    _size: int = field(default=0, init=False)
    _came: float = field(default=0.0, init=False)  # the last output, by `time.monotonic`
    _opened: float = field(default=0.0, init=False)  # the first of the open lines
    _in_traceback: bool = field(default=False, init=False)

    @property
    def due(self) -> float:
        """When a line that may go on is complete, by `time.monotonic`; infinity if there is none."""
        return min(self._came + PAUSE, self._opened + LONGEST_PAUSE) if self._open else inf

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Takes output; yields what is complete, without its last line feed."""
        self._came = time.monotonic()
        lines = (self._rest + data).split(b"\n")
        self._rest = lines.pop()
        if lines and self._is_cut:
            lines[0], self._is_cut = lines[0] + TRUNCATED.encode(), False
        for line in lines:
            yield from self._take(line)
        if len(self._rest) > LONGEST_LINE:
            self._rest, self._is_cut = self._rest[:LONGEST_LINE], True

    def end(self) -> Iterator[bytes]:
        """Yields what has come of the last line, whether it has ended or not."""
        if self._rest:
            rest, self._rest = self._rest, b""
            yield from self._take(rest + (TRUNCATED.encode() if self._is_cut else b""))
            self._is_cut = False
        yield from self.pause()

    def pause(self) -> Iterator[bytes]:
        """Yields the lines that might have gone on."""
        if self._open:
            yield b"\n".join(self._open)
            self._open, self._size, self._in_traceback = [], 0, False

    def _take(self, line: bytes) -> Iterator[bytes]:
        line = line.removesuffix(b"\r")
        if self._open and self._continues(line):
            # Of very long ones the beginning says most.
            if self._size <= LONGEST_LINE:
                self._open.append(line)
                self._size += len(line)
            return
        if self._open:
            yield from self.pause()
        if line[:1] == b"{" and line[-1:] == b"}":
            yield line
        elif line:
            self._open, self._size, self._in_traceback = [line], len(line), line.startswith(TRACEBACK)
            self._opened = self._came

    def _continues(self, line: bytes) -> bool:
        """Whether a line belongs to the one before it, which may go on."""
        if self._in_traceback:
            # Its last line is the first that is not indented: the error itself.
            self._in_traceback = line[:1] in (b" ", b"\t", b"")
            return True
        return line[:1] in (b" ", b"\t") or line.startswith(CAUSED_BY)


@define(eq=False)
class OutputLog:
    """Reads a program's stdout and stderr in a thread, and writes each line to a descriptor as one of our log."""

    _fd: int
    _app_id: str
    _run_id: str
    _max_len: int  # characters of a text; 0: any number
    _thread: threading.Thread | None = field(default=None, init=False)
    _is_closed: bool = field(default=False, init=False)  # nobody reads what we write
    _break: bytes = field(default=b"", init=False)  # what ends a line of which only a part could be written

    def start(self, stdout: IO[bytes], stderr: IO[bytes]) -> None:
        """Begins to read."""
        args = ({stdout: Stream("stdout"), stderr: Stream("stderr")},)
        self._thread = threading.Thread(target=self._work, args=args, name="output", daemon=True)
        self._thread.start()

    def finish(self) -> None:
        """Waits until all is written that the program wrote, for `END_TIMEOUT` seconds at most."""
        if self._thread is not None:
            self._thread.join(END_TIMEOUT)

    def _work(self, streams: dict[IO[bytes], Stream]) -> None:
        with selectors.DefaultSelector() as selector:
            for file, stream in streams.items():
                selector.register(file, selectors.EVENT_READ, stream)
            while selector.get_map():
                due = min(each.due for each in streams.values())
                for key, _ in selector.select(None if due == inf else max(0.0, due - time.monotonic())):
                    data = os.read(key.fd, CHUNK)
                    complete = key.data.feed(data) if data else key.data.end()
                    self._write(self.rendered(key.data, complete))
                    if not data:
                        selector.unregister(key.fileobj)
                now = time.monotonic()
                for stream in streams.values():
                    if stream.due <= now:
                        self._write(self.rendered(stream, stream.pause()))

    def rendered(self, stream: Stream, complete: Iterator[bytes]) -> bytes:
        """Returns complete lines of a stream as lines of our log."""
        return escape_line(b"".join(self._lines(stream, complete)))  # which leaves line feeds as they are

    def _lines(self, stream: Stream, complete: Iterator[bytes]) -> Iterator[bytes]:
        now = datetime.fromtimestamp(time.time(), UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        ours = {"ts": now, "app_id": self._app_id, "run_id": self._run_id, "stream": stream.name}
        front = _encode(ours)[:-1] + b","
        for each in complete:
            line = self._object(ours, front, each) if each[:1] == b"{" else None
            if line is None:
                text = self._shortened(each.decode(errors="backslashreplace"))
                line = _encode(Line(now, "info", text, self._app_id, self._run_id, stream.name))
            yield line + b"\n"

    def _object(self, ours: dict[str, str], front: bytes, line: bytes) -> bytes | None:
        """Returns a line that is a JSON object itself, with fields of ours, which `front` has already as JSON.

        Of a line that is none it returns None.
        """
        # White space there, which terminals would obey, or which would end the line.
        line = line.replace(b"\r", b" ").replace(b"\n", b" ")
        try:
            if not line.isascii():
                line.decode()  # msgspec does not look into texts that it leaves as they are
        except UnicodeDecodeError:
            return None
        if not self._max_len or len(line) <= self._max_len:
            # Mostly it is right as it is, which is the quickest.
            with suppress(*NOT_DECODED):
                if _known(line).fits:
                    return front + line[1:]
        try:
            fields: dict[str, Any] = dict(_decode(line))
            level, msg = _plain(fields.pop("level", None)), _plain(fields.pop("msg", fields.pop("message", None)))
        except NOT_DECODED:
            return None
        for name in OURS & fields.keys():
            fields[f"{name}_"] = fields.pop(name)
        if self._max_len and len(line) > self._max_len:
            fields = {name: self._short_value(value) for name, value in fields.items()}
        first = {"ts": ours["ts"], "level": level.lower() or "info", "msg": self._shortened(msg)}
        return _encode(first | ours | fields)

    def _short_value(self, value: msgspec.Raw) -> Any:
        text = bytes(value)
        return value if len(text) <= self._max_len else self._shortened(_plain(value))

    def _shortened(self, text: str) -> str:
        if not self._max_len or len(text) <= self._max_len:
            return text
        return text[: max(0, self._max_len - len(TRUNCATED))] + TRUNCATED

    def _write(self, lines: bytes) -> None:
        lines = self._break + lines
        data = memoryview(lines)
        # The program waits, as it would if it wrote there itself; if nobody reads any longer it goes on.
        while data and not self._is_closed:
            try:
                data = data[os.write(self._fd, data) :]
            except BlockingIOError:
                with suppress(OSError):
                    _wait_for_room(self._fd)
            except OSError as error:
                self._is_closed = error.errno in (errno.EPIPE, errno.EBADF)
                # Of a disk that is full, and may have room again, these lines are lost; the next begins a new one.
                if written := lines[: len(lines) - len(data)]:
                    self._break = b"" if written.endswith(b"\n") else b"\n"
                return
        self._break = b""


def _plain(value: msgspec.Raw | None) -> str:
    """Returns the text of a JSON value: a text itself, or what stands for any other."""
    if value is None:
        return ""
    text = bytes(value)
    return _text(text) if text[:1] == b'"' else text.decode()


def _wait_for_room(fd: int) -> None:
    with selectors.DefaultSelector() as selector:
        selector.register(fd, selectors.EVENT_WRITE)
        selector.select()
