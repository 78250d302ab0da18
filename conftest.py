"""Every Python block of the documentation runs as a test; the blocks of a page are one program."""

from sybil import Sybil
from sybil.parsers.myst import PythonCodeBlockParser

PAGES = ("README.md", "CONTRIBUTING.md", "*.md", "extending/*.md")


def begin_page(namespace: dict[str, object]) -> None:
    """Name the page's module as a script's is, so that its functions travel by value."""
    namespace["__name__"] = "__main__"


pytest_collect_file = Sybil(
    parsers=[PythonCodeBlockParser()], patterns=PAGES, setup=begin_page
).pytest()
