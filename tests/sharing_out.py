"""How `pytest -n 2` shares the tests out among its processes.

The tests of a module are run by one process, since they share fixtures, and so are the modules that use something which
takes a minute to start. xdist's own groups (`--dist loadgroup`) do not work: its 3.8 marks them in a field that pytest
9.2 no longer has.
"""

import re
from functools import cache
from pathlib import Path

import pytest
from xdist.scheduler import LoadScopeScheduling

STARTED_ONCE = ("vllm_url", "vllm")
"""Fixtures that are started once for all modules that use them."""
ROOT = Path(__file__).parent.parent


class Groups(LoadScopeScheduling):
    """Gives each process a group at a time."""

    def _split_scope(self, nodeid: str) -> str:
        return group_of(module_of(nodeid))


def longest_first(items: list[pytest.Item]) -> list[pytest.Item]:
    """The items group by group, those groups first that have most slow tests."""
    groups: dict[str, list[pytest.Item]] = {}
    for item in items:
        groups.setdefault(group_of(module_of(item.nodeid)), []).append(item)
    return [item for group in sorted(groups.values(), key=_slow_ones, reverse=True) for item in group]


def module_of(nodeid: str) -> str:
    """The file of a test or of an example in a docstring."""
    return nodeid.split("::")[0]


@cache
def group_of(module: str) -> str:
    """What the tests of a file share with those of others, or the file itself."""
    text = (ROOT / module).read_text(encoding="utf-8")
    return next((name for name in STARTED_ONCE if re.search(rf"def \w+\([^)]*\b{name}: ", text)), module)


def _slow_ones(items: list[pytest.Item]) -> int:
    return sum(item.get_closest_marker("slow") is not None for item in items)
