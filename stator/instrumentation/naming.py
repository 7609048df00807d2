"""What a row's process is called in the label ``worker``: the name that it was given, or the row's number."""

from stator.instrumentation.layout import HEAD, NAMED, ROWS

MAIN = "main"
LENGTH = 8 * (HEAD - NAMED)


def worker_label(heads: memoryview, row: int) -> str:
    """Returns the value of the label for a row's process."""
    return name_of(heads, row) or (str(row) if row else MAIN)


def name_of(heads: memoryview, row: int) -> str:
    """Returns the name that a row's last process was given; empty if it has none."""
    return heads[row * HEAD + NAMED : (row + 1) * HEAD].tobytes().rstrip(b"\0").decode(errors="replace")


def write_name(heads: memoryview, row: int, name: str) -> None:
    """Names a row's process; an empty name leaves it its number."""
    heads[row * HEAD + NAMED : (row + 1) * HEAD] = memoryview(name.encode().ljust(LENGTH, b"\0")).cast("Q")


def rows_called(heads: memoryview, name: str) -> list[int]:
    """Returns the rows whose last process has a name."""
    return [row for row in range(ROWS) if name and name_of(heads, row) == name]
