"""Command templates: macros become words, values never do anything but appear."""

import dataclasses
import json
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bbopt.errors import InvalidError
from bbopt.space import ParamValue
from bbopt.trial import Stage
from bbopt_client.worker.command import CommandTemplate, Invocation

PARAMETERS: dict[str, ParamValue] = {"lr": 0.1, "n": 3, "bn": True, "aug": False, "opt": "sgd"}


def invocation(parameters: dict[str, ParamValue]) -> Invocation:
    return Invocation(
        study="digits",
        trial=12,
        attempt=2,
        parameters=parameters,
        params_file=Path("/w/params.json"),
        report_file=Path("/w/report.jsonl"),
        result_file=Path("/w/result.json"),
    )


def expand(*argv: str, parameters: dict[str, ParamValue] | None = None) -> list[str]:
    chosen = PARAMETERS if parameters is None else parameters
    template = CommandTemplate.parse(argv, names=chosen, environment={"HOME": "/home/a b"})
    return template.expand(invocation(chosen))


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("${args}", ["--lr=0.1", "--n=3", "--bn=true", "--aug=false", "--opt=sgd"]),
        (
            "${args_no_equals}",
            ["--lr", "0.1", "--n", "3", "--bn", "true", "--aug", "false", "--opt", "sgd"],
        ),
        ("${args_no_hyphens}", ["lr=0.1", "n=3", "bn=true", "aug=false", "opt=sgd"]),
        ("${args_no_boolean_flags}", ["--lr=0.1", "--n=3", "--bn", "--opt=sgd"]),
        ("${args_append_hydra}", ["+lr=0.1", "+n=3", "+bn=true", "+aug=false", "+opt=sgd"]),
        (
            "${args_override_hydra}",
            ["++lr=0.1", "++n=3", "++bn=true", "++aug=false", "++opt=sgd"],
        ),
        ("${args_json}", [json.dumps(PARAMETERS)]),
        ("${args_json_file}", ["/w/params.json"]),
        ("${params_file}", ["/w/params.json"]),
        ("${result_file}", ["/w/result.json"]),
        ("${report_file}", ["/w/report.jsonl"]),
        ("${interpreter}", [sys.executable]),
        ("${envvar:HOME}", ["/home/a b"]),
        ("${param:lr}", ["0.1"]),
        ("--rate=${param:lr},${param:opt}", ["--rate=0.1,sgd"]),
        ("out/${study}-${trial}.${attempt}", ["out/digits-12.2"]),
        ("$${param:lr}", ["${param:lr}"]),
        ("$${5} $${HOME}", ["${5} ${HOME}"]),
        ("$HOME {x} ${", ["$HOME {x} ${"]),
        ("", [""]),
    ],
)
def test_a_macro_becomes_its_words(word: str, expected: list[str]) -> None:
    assert expand("prog", word) == ["prog", *expected]


def test_an_inactive_parameter_is_replaced_by_nothing() -> None:
    template = CommandTemplate.parse(
        ["a", "-m=${param:momentum}"], names=["momentum"], environment={}
    )
    assert template.expand(invocation({})) == ["a", "-m="]


@pytest.mark.parametrize(
    "value", ["a b; rm -rf x", "$(touch x)", "`x`", "${envvar:HOME}", "'\"\n"]
)
def test_a_value_stays_one_word_whatever_it_contains(value: str) -> None:
    argv = expand("prog", "${param:opt}", "x=${param:opt}", parameters={"opt": value})
    assert argv == ["prog", value, f"x={value}"]


@given(st.dictionaries(st.text(min_size=1), st.text(), max_size=5))
def test_every_parameter_becomes_exactly_one_argument(parameters: dict[str, str]) -> None:
    typed: dict[str, ParamValue] = dict(parameters)
    argv = expand("prog", "${args}", parameters=typed)
    assert argv == ["prog", *(f"--{name}={value}" for name, value in parameters.items())]


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_float_survives_the_command_line(value: float) -> None:
    assert float(expand("prog", "${param:x}", parameters={"x": value})[1]) == value


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("${arg}", "unknown macro ${arg}"),
        ("${}", "unknown macro"),
        ("${HOME}", "unknown macro ${HOME}"),
        ("${trial:3}", "unknown macro ${trial:3}"),
        ("${param:nope}", "no parameter 'nope'"),
        ("${param}", "needs a name"),
        ("${envvar:NOPE}", "NOPE is not set"),
        ("x${args}", "a word of its own"),
    ],
)
def test_a_wrong_macro_is_refused_before_any_trial(word: str, message: str) -> None:
    with pytest.raises(InvalidError, match=r"command\[1\]") as refused:
        expand("prog", word)
    assert message in str(refused.value)


def test_all_wrong_macros_are_listed_at_once() -> None:
    with pytest.raises(InvalidError) as refused:
        expand("${a}", "${b}")
    assert [each.field for each in refused.value.violations] == ["command[0]", "command[1]"]


def test_an_empty_command_is_refused() -> None:
    with pytest.raises(InvalidError, match="is empty"):
        expand()


def test_the_budget_and_what_to_resume_are_macros_where_there_is_a_fidelity() -> None:
    words = ("--to=${budget}", "--from=${resume_from}", "${checkpoint_dir}")
    template = CommandTemplate.parse(words, names=(), environment={}, has_fidelity=True)
    run = dataclasses.replace(
        invocation({}), stage=Stage(9, 4, 2), checkpoint_dir=Path("/w/checkpoints/2")
    )
    assert template.expand(run) == ["--to=9", "--from=4", "/w/checkpoints/2"]
    begun = dataclasses.replace(run, stage=Stage(1))
    assert template.expand(begun)[:2] == ["--to=1", "--from="]
    with pytest.raises(InvalidError, match="the study has no fidelity"):
        CommandTemplate.parse(words, names=(), environment={})
