"""A study's definition out of a file or of command-line options."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeVar

from bbopt.errors import SpecError, Violation
from bbopt.problem import Metric, MetricKind, Problem
from bbopt.space import Space
from bbopt.specs import StudySpec
from bbopt_client.cli.failures import CommandError, ExitCode
from bbopt_client.cli.study_files import StudyDefinition, load_study_file
from bbopt_client.cli.study_files.fidelity_text import parse_fidelity
from bbopt_client.cli.study_files.linear import parse_linear
from bbopt_client.cli.study_files.space_text import parse_space_option

T = TypeVar("T")


def definition_from_options(
    *,
    file: str | None,
    space: Sequence[str],
    objective: str | None,
    constraints: Sequence[str],
    metrics: Sequence[str],
    parameter_constraints: Sequence[str],
    fidelity: str | None,
    trials: int | None,
    strategy: str | None,
    seed: int | None,
) -> StudyDefinition:
    """Read what ``study create`` was given.

    With a file, ``trials``, ``strategy`` and ``seed`` replace what the file says, so that
    one file serves several studies; what is measured and varied is the file's alone.

    Raises:
        CommandError: The options contradict each other, or say too little.
        SpecError: The definition is wrong; everything that is wrong is listed.
    """
    from bbopt_client.definition import define_study, strategy_named

    if file is not None:
        if space or objective or constraints or metrics or parameter_constraints or fidelity:
            raise CommandError(
                "a study file says what varies and what is measured; "
                "leave out --space, --objective and --constraint",
                ExitCode.USAGE,
            )
        definition = load_study_file(file)
        return replace(definition, spec=_adjusted(definition.spec, trials, strategy, seed))
    if not space or objective is None:
        raise CommandError("a study needs -f FILE, or --space and --objective", ExitCode.USAGE)
    violations: list[Violation] = []
    parameters = _read_all(space, "--space", parse_space_option, violations)
    linear = _read_all(
        parameter_constraints, "--parameter-constraint", parse_linear, violations
    )
    measured = _read_all([objective], "--objective", Metric.parse, violations)
    measured += _read_all(constraints, "--constraint", Metric.parse, violations)
    limits = _read_all([fidelity] if fidelity else [], "--fidelity", parse_fidelity, violations)
    if violations:
        raise SpecError(violations)
    spec = define_study(
        Space(tuple(parameters), tuple(linear)),
        measured[0],
        constraints=measured[1:],
        metrics=[Metric(name, MetricKind.TRACKED) for name in metrics],
        fidelity=limits[0] if limits else None,
        trials=trials,
        strategy=strategy_named(strategy or "auto"),
        seed=seed,
    )
    return StudyDefinition(spec)


def _read_all(
    texts: Sequence[str], option: str, read: Callable[[str], T], violations: list[Violation]
) -> list[T]:
    found: list[T] = []
    for text in texts:
        try:
            found.append(read(text))
        except SpecError as error:
            violations.extend(
                Violation(f"{option} {text!r}", each.message) for each in error.violations
            )
        except ValueError as error:
            violations.append(Violation(f"{option} {text!r}", str(error)))
    return found


def _adjusted(
    spec: StudySpec, trials: int | None, strategy: str | None, seed: int | None
) -> StudySpec:
    from bbopt_client.definition import strategy_named

    problem: Problem = spec.problem
    if trials is not None:
        problem = replace(problem, budget=replace(problem.budget, trials=trials))
    if seed is not None and not 0 <= seed < 2**64:
        raise SpecError.of("--seed", f"must be in [0, 2**64), got {seed}")
    return replace(
        spec,
        problem=problem,
        strategy=spec.strategy if strategy is None else strategy_named(strategy),
        seed=spec.seed if seed is None else seed,
    )
