"""The compose file's images are built, its services work together, and Stator is a good container."""

from tests.containers.demonstration import Demonstration


def test_stator_answers_where_it_is_published(demonstration: Demonstration) -> None:
    assert demonstration.get("stator", "/monitor").status == 200
