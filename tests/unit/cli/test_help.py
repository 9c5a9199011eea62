"""What ``--help`` says."""

from collections.abc import Iterator

import pytest
import typer
from rich.text import Text
from typer.core import TyperCommand, TyperGroup

from bbopt_client.cli.app import app, run


def texts(command: object, path: str = "bbopt") -> Iterator[tuple[str, str]]:
    """Every text that ``--help`` shows of a command and of those below it."""
    assert isinstance(command, TyperCommand | TyperGroup)
    yield path, command.help or ""
    for option in command.params:
        yield f"{path} {option.name}", getattr(option, "help", None) or ""
    for name, inner in getattr(command, "commands", {}).items():
        yield from texts(inner, f"{path} {name}")


def test_no_word_of_the_help_is_taken_for_markup() -> None:
    found = dict(texts(typer.main.get_command(app)))
    assert found["bbopt study create file"]
    swallowed = [path for path, text in found.items() if Text.from_markup(text).plain != text]
    assert swallowed == []


@pytest.mark.parametrize(
    ("words", "default"),
    [
        (["run"], "until finished"),
        (["run"], "bbopt-runs/STUDY"),
        (["run"], "30s"),
        (["export"], "standard output"),
        (["ask"], "$BBOPT_SERVER or 127.0.0.1:50151"),
        (["ask"], "table on a terminal, json otherwise"),
        ([], "$BBOPT_SERVER or 127.0.0.1:50151"),
    ],
)
def test_the_help_says_what_an_option_is_by_default(
    words: list[str],
    default: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("TERMINAL_WIDTH", "200")
    run([*words, "--help"])
    assert f"default: {default}" in capsys.readouterr().out.replace("(", "").replace(")", "")
