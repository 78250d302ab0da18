"""Every Python block of the documentation runs as a test; the blocks of a page are one program."""

import pytest
from sybil import Sybil
from sybil.integration.pytest import SybilItem
from sybil.parsers.myst import PythonCodeBlockParser

#: A pattern holds for the end of a path. Pages of engines that must be started are not among them:
#: tests/guide runs these, where the engines are there.
PAGES = (
    "README.md",
    "CONTRIBUTING.md",
    "docs/*.md",
    "docs/extending/*.md",
    "docs/plugins/*.md",
    "docs/optimization/*.md",
    "docs/engines/pools.md",
    "docs/engines/dask.md",
)

pytest.register_assert_rewrite("amltk.testing.contracts")

pytest_plugins = [
    "contract_table",
    "suite.ends",
    "suite.groups",
    "suite.once",
    "started.dask",
    "started.clusters",
    "started.engines",
    "started.ray",
    "started.airflow",
]


def begin_page(namespace: dict[str, object]) -> None:
    """Name the page's module as a script's is, so that its functions travel by value."""
    namespace["__name__"] = "__main__"


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the blocks of each page together and in order again, after all tests were shuffled."""
    pages: dict[object, list[SybilItem]] = {}
    for item in items:
        if isinstance(item, SybilItem):
            pages.setdefault(item.path, []).append(item)
    ordered: list[pytest.Item] = []
    for item in items:
        if isinstance(item, SybilItem):
            blocks = pages.pop(item.path, [])
            ordered += sorted(blocks, key=lambda block: block.example.region.start)
        else:
            ordered.append(item)
    items[:] = ordered


pytest_collect_file = Sybil(
    parsers=[PythonCodeBlockParser()], patterns=PAGES, setup=begin_page
).pytest()
