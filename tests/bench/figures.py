"""What a benchmark measures: a figure beside its goal."""

from typing import NamedTuple


class Figure(NamedTuple):
    """One result.

    Attributes:
        what: What was measured.
        value: What came out, with what it is compared with.
        goal: What docs/benchmarks.md names as the goal, or empty.
        details: Numbers behind the value, or empty.
    """

    what: str
    value: str
    goal: str = ""
    details: str = ""

    def __str__(self) -> str:
        goal = f" (goal: {self.goal})" if self.goal else ""
        details = f"\n  {self.details}" if self.details else ""
        return f"{self.what}: {self.value}{goal}{details}"
