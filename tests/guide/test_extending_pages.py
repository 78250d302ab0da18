"""What the documentation builds passes the contracts that it recommends."""

import re
from pathlib import Path

PAGES = Path(__file__).parents[2] / "docs" / "extending"


def classes_of_page(name: str) -> dict[str, object]:
    namespace: dict[str, object] = {"__name__": "__main__"}
    for block in re.findall(r"```python\n(.*?)```", (PAGES / name).read_text("utf-8"), re.DOTALL):
        exec(block, namespace)
    return namespace


TestOneThread = classes_of_page("engine.md")["TestOneThread"]

_OPTIMIZERS = classes_of_page("optimizer.md")
TestClimber, TestHalton = _OPTIMIZERS["TestClimber"], _OPTIMIZERS["TestHalton"]
