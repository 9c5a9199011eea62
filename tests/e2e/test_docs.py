"""The programs and commands in the docs run, and the pages say what the code says."""

import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from bbopt import errors
from bbopt.rpc.errors import status_code
from bbopt_client.cli.app import app
from bbopt_server import settings
from tests.e2e.command_line import served

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
README = ROOT / "README.md"
PAGES = sorted([README, ROOT / "CONTRIBUTING.md", *DOCS.rglob("*.md")])
OF_USERS = [page for page in PAGES if page.stem not in ("CONTRIBUTING", "benchmarks")]
FOLDERS = ("bbopt", "benchmarks", "client", "docs", "examples", "proto", "server", "tests")
LINKED = sorted(
    [*ROOT.glob("*.md"), *(page for f in FOLDERS for page in (ROOT / f).rglob("*.md"))]
)
OF_PROGRAMS = {"--lr", "--n", "--flag"}
"""Options of the programs in the examples, not of ours."""


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text("utf-8"), re.DOTALL | re.M)


PROGRAMS = {
    f"{page.stem} {number}": program
    for page in DOCS.glob("*.md")
    for number, program in enumerate(blocks(page, "python"), 1)
}
FRAGMENTS = {"run 1"}
"""Programs that leave out what every reader has to write."""


def run_program(program: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # noqa: S603 - the docs' own program
        [sys.executable, "-c", program],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


def test_the_readmes_program_prints_what_the_readme_says(tmp_path: Path) -> None:
    program, expected = blocks(README, "python")[0], blocks(README, "text")[0]
    assert len(program.strip().splitlines()) <= 13  # twelve, and a blank one
    done = run_program(program, tmp_path)
    assert done.stderr == ""
    assert done.stdout == expected


def test_both_commands_of_the_readme_install_the_same_way() -> None:
    demo, test = (block.strip() for block in blocks(README, "console")[:2])
    assert demo.rpartition(" && ")[0] == test.rpartition(" && ")[0]


@pytest.mark.parametrize("name", sorted(PROGRAMS.keys() - FRAGMENTS))
def test_a_program_runs(name: str, tmp_path: Path) -> None:
    done = run_program(PROGRAMS[name], tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout


@pytest.mark.parametrize("name", sorted(FRAGMENTS))
def test_a_fragment_can_be_compiled(name: str) -> None:
    compile(PROGRAMS[name], name, "exec")


@pytest.mark.slow
@pytest.mark.parametrize("page", ["README.md", "docs/cli.md", "docs/quickstart.md"])
def test_the_commands_of_a_page_run(page: str, tmp_path: Path) -> None:
    """One after the other, in a shell, with a server that listens where a free port is."""
    lines = [line for block in blocks(ROOT / page, "console") for line in block.splitlines()]
    commands = [line for line in lines if line.startswith("bbopt ") and " serve " not in line]
    assert len(commands) >= 3
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    with served(tmp_path) as line:
        for command in commands:
            line.shell(command)


# ---------------------------------------------------------------------- what pages name


@pytest.mark.parametrize("page", LINKED, ids=name_of)
def test_every_link_leads_to_a_page_and_a_heading(page: Path) -> None:
    for target, heading in re.findall(
        r"\]\(([^)#:\s]*)(?:#([^)\s]+))?\)", page.read_text("utf-8")
    ):
        found = (page.parent / target) if target else page
        assert found.exists(), target
        if heading:
            assert heading in anchors(found), f"{target}#{heading}"


def anchors(page: Path) -> set[str]:
    """Name the headings of a page as links do."""
    titles = re.findall(r"^#+ (.*)$", page.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def options_of_commands() -> dict[str, set[str]]:
    """List the options of every command, by the words that are typed."""
    root = typer.main.get_command(app)
    commands = dict(root.commands)  # type: ignore[attr-defined]
    for name, command in list(commands.items()):
        parts = getattr(command, "commands", {})
        commands |= {f"{name} {part}": each for part, each in parts.items()}
    return {
        words: {text for one in (*root.params, *each.params) for text in names_of(one)}
        for words, each in commands.items()
    }


def names_of(option: Any) -> Iterable[str]:  # noqa: ANN401 - typer does not name its class
    return (*option.opts, *option.secondary_opts)


COMMANDS = options_of_commands()
SERVER_FLAGS = set(settings._parser({})._option_string_actions)
DEFAULT_COMMANDS = {"run.md": ["run"], "demo.md": ["demo"]}
"""Whose options a page is about."""


def code_in(page: Path) -> Iterator[str]:
    """Yield what stands in code, line by line; not what is of other programs."""
    is_block = False
    for line in page.read_text("utf-8").splitlines():
        if line.startswith("```"):
            is_block = line.startswith("```console") if not is_block else False
            continue
        code = line if is_block else " ".join(re.findall(r"`([^`]*)`", line))
        if not any(other in line for other in ("python -m", "buf ", "pip ", "pytest")):
            yield code.split(" -- ")[0]


@pytest.mark.parametrize("page", OF_USERS, ids=name_of)
def test_every_command_and_option_that_a_page_names_exists(page: Path) -> None:
    for code in code_in(page):
        named = re.findall(r"\bbbopt ((?:study )?[a-z]+)", code)
        assert set(named) <= COMMANDS.keys(), code
        commands = named or DEFAULT_COMMANDS.get(page.name, list(COMMANDS))
        if "study list" in commands:  # One line for `list | show | delete`.
            commands = [each for each in COMMANDS if each.startswith("study ")]
        allowed = set().union(*(COMMANDS[each] for each in commands), OF_PROGRAMS)
        if "serve" in commands or not named:
            allowed |= SERVER_FLAGS
        options = re.findall(r"(?<![\w-])(--[a-z][a-z-]*|-[a-z])(?![\w-])", code)
        assert set(options) <= allowed, code


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_variable_that_a_page_names_exists(page: Path) -> None:
    of_server = {"BBOPT_" + flag[2:].upper().replace("-", "_") for flag in SERVER_FLAGS}
    sources = [
        path.read_text("utf-8")
        for f in ("client", "server")
        for path in (ROOT / f).rglob("*.py")
    ]
    for name in re.findall(r"BBOPT_[A-Z_]*[A-Z]", page.read_text("utf-8")):
        assert name in of_server or any(name in source for source in sources), name


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_module_that_a_page_runs_exists(page: Path) -> None:
    for name in re.findall(
        r"python -m ((?:bbopt|benchmarks|tests)[\w.]*\w)", page.read_text("utf-8")
    ):
        path = name.replace(".", "/")
        homes = [ROOT, ROOT / "client", ROOT / "server"]
        assert any(
            (home / f"{path}.py").exists() or (home / path / "__main__.py").exists()
            for home in homes
        ), name


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
