"""The catalog of built-in collectors."""

from pkgutil import iter_modules

import stator.collectors
from stator.collectors.catalog import BUILT_IN, DEFAULT


def test_each_module_of_the_package_is_a_collector_of_its_name() -> None:
    modules = {each.name for each in iter_modules(stator.collectors.__path__) if not each.name.startswith("_")}
    assert modules - {"catalog"} == BUILT_IN.keys()


def test_the_collectors_that_run_by_default_come_first_in_every_list() -> None:
    assert list(BUILT_IN)[: len(DEFAULT)] == list(DEFAULT)
