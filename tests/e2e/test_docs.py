"""The programs in the docs run, and the pages say what the code says."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from bbopt import errors
from bbopt.rpc.errors import status_code

DOCS = Path(__file__).resolve().parents[2] / "docs"


def section(page: str, title: str) -> str:
    text = (DOCS / page).read_text("utf-8")
    return re.split(
        r"^## ", text.partition(f"## {title}\n")[2], maxsplit=1, flags=re.MULTILINE
    )[0]


@pytest.mark.parametrize("title", ["One process", "Ask and tell by hand", "Without a server"])
def test_the_quickstart_runs(title: str, tmp_path: Path) -> None:
    program = re.findall(r"```python\n(.*?)```", section("quickstart.md", title), re.DOTALL)[0]
    done = subprocess.run(  # noqa: S603 - the docs' own program
        [sys.executable, "-c", program],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout


def test_the_page_of_errors_agrees_with_the_wire() -> None:
    page = (DOCS / "errors.md").read_text("utf-8")
    rows = re.findall(r"^\| `(\w+)` \| `(\w+)` \| (\w+) \|", page, re.MULTILINE)
    assert rows
    for name, reason, status in rows:
        error = build(getattr(errors, name))
        assert (error.reason, status_code(error).name) == (reason, status)


def build(kind: type[errors.BboptError]) -> errors.BboptError:
    if issubclass(kind, errors.InvalidError):
        return kind.of("field", "is wrong")
    return kind("message")
