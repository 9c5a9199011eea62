"""The README's program prints what the README says."""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def blocks(language: str) -> list[str]:
    text = (ROOT / "README.md").read_text("utf-8")
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def test_the_first_program_prints_its_output(tmp_path: Path) -> None:
    program, expected = blocks("python")[0], blocks("text")[0]
    assert len(program.strip().splitlines()) <= 13  # twelve, and a blank one
    done = subprocess.run(  # noqa: S603 - the README's own program
        [sys.executable, "-c", program],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.stderr == ""
    assert done.stdout == expected


def test_both_commands_install_the_same_way() -> None:
    demo, test = (block.strip() for block in blocks("console")[:2])
    assert demo.rpartition(" && ")[0] == test.rpartition(" && ")[0]


def test_every_linked_page_exists() -> None:
    pages = re.findall(r"\]\(([^)#:]+)\)", (ROOT / "README.md").read_text("utf-8"))
    assert pages
    assert [page for page in pages if not (ROOT / page).exists()] == []
