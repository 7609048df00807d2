"""Whatever a wrapped program writes, each of its lines becomes a JSON object with our fields."""

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from stator.child.output import OutputLog, Stream

TEXTS = st.text(st.characters(exclude_categories=()), max_size=30)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXTS,
    lambda values: st.lists(values, max_size=3) | st.dictionaries(TEXTS, values, max_size=3),
    max_leaves=5,
)
NAMES = st.sampled_from(("level", "msg", "message", "ts", "app_id", "run_id", "stream")) | TEXTS
OBJECTS = st.dictionaries(NAMES, VALUES, max_size=5)
PIECES = st.binary(max_size=3) | st.sampled_from((b'"', b"\\", b"\\ud800", b"{", b"}", b",", b"\xff", b"\x7f", b"\r"))


@st.composite
def lines(draw: st.DrawFn) -> bytes:
    """A JSON object, as it is or with some of its bytes replaced."""
    line = json.dumps(draw(OBJECTS), ensure_ascii=draw(st.booleans())).encode(errors="surrogatepass")
    for _ in range(draw(st.integers(0, 2))):
        begin = draw(st.integers(1, len(line)))
        line = line[:begin] + draw(PIECES) + line[begin + draw(st.integers(0, 3)) :]
    return line.replace(b"\n", b"")


@given(st.lists(lines() | st.binary(max_size=40), max_size=4), st.sampled_from((0, 20, 999)))
def test_each_line_becomes_one_with_our_fields(written: list[bytes], max_len: int) -> None:
    stream, log = Stream("stdout"), OutputLog(1, "shop", "RUN", max_len)
    complete = [*stream.feed(b"".join(line + b"\n" for line in written)), *stream.end()]
    found: list[dict[str, Any]] = [json.loads(line) for line in log.rendered(stream, iter(complete)).splitlines()]
    assert len(found) == len(complete)
    for line in found:
        assert (line["app_id"], line["run_id"], line["stream"]) == ("shop", "RUN", "stdout")
        assert {"ts", "level", "msg"} <= line.keys()
