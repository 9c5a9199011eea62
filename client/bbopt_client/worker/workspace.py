"""Where a trial runs: its files, its environment, its rendered templates.

::

    WORK_DIR/trial-000012/attempt-1/
        params.json  report.jsonl  result.json  stop  stdout.log  stderr.log
    WORK_DIR/checkpoints/configuration-000012/        where the study has a fidelity
"""

import json
import re
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bbopt.errors import InvalidError, Violation
from bbopt.space import ParamValue
from bbopt.trial import Stage
from bbopt_client.worker.command import (
    Invocation,
    Macro,
    Word,
    check_macro,
    expand_text,
    parse_word,
    to_text,
)

_NOT_IN_VARIABLE = re.compile(r"[^A-Z0-9_]")


@dataclass(frozen=True, slots=True)
class FileTemplate:
    """An input file of the program with macros in it, rendered anew for each trial."""

    source: Path
    target: Path
    """Relative to the directory that the command runs in."""
    word: Word

    @classmethod
    def parse(
        cls,
        option: str,
        *,
        names: frozenset[str],
        environment: Mapping[str, str],
        has_fidelity: bool = False,
    ) -> "FileTemplate":
        """Read ``in.tpl=in.dat`` and the template file.

        Args:
            option: Template and target; the target stays inside the trial's directory.
            names: Every parameter of the study.
            environment: The worker's environment, for ``${envvar:X}``.
            has_fidelity: Whether the study has one.

        Raises:
            InvalidError: The option, the file or a macro in it is wrong.
        """
        source, equals, target = option.partition("=")
        path = Path(target)
        if not (source and equals and target):
            raise InvalidError.of("--template", f"{option!r} is not TEMPLATE=TARGET")
        if path.is_absolute() or ".." in path.parts:
            raise InvalidError.of("--template", f"{target} must stay in the trial's directory")
        try:
            word = parse_word(Path(source).read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError) as error:
            raise InvalidError.of("--template", f"cannot read {source}: {error}") from error
        violations = [
            Violation(f"--template {source}", problem)
            for piece in word
            if isinstance(piece, Macro)
            and (
                problem := check_macro(
                    piece, names=names, environment=environment, has_fidelity=has_fidelity
                )
            )
        ]
        if violations:
            raise InvalidError(violations)
        return cls(Path(source), path, word)


@dataclass(frozen=True, slots=True)
class Layout:
    """Where the files of trials go."""

    work_dir: Path
    cwd_per_trial: Path | None = None
    """Each trial runs in a directory of its own below this one, which is kept."""
    result_file: Path | None = None
    """Where the program writes its result, relative to the directory it runs in."""
    templates: tuple[FileTemplate, ...] = ()


@dataclass(frozen=True, slots=True)
class Workspace:
    """The files of one attempt at one trial."""

    directory: Path
    cwd: Path
    params_file: Path
    report_file: Path
    result_file: Path
    stop_file: Path
    stage: Stage | None = None
    checkpoint_dir: Path | None = None
    """Of the configuration, for every trial and attempt of it; kept."""

    @classmethod
    def create(
        cls,
        layout: Layout,
        *,
        study: str,
        trial: int,
        attempt: int,
        parameters: Mapping[str, ParamValue],
        environment: Mapping[str, str],
        stage: Stage | None = None,
    ) -> "Workspace":
        """Make the directories and write the parameters and the rendered templates.

        Args:
            layout: Where files go.
            study: Id of the study.
            trial: Number of the trial.
            attempt: Which attempt at it, from 1.
            parameters: Its active parameters, in user units.
            environment: The worker's environment, for ``${envvar:X}``.
            stage: How far the trial goes; ``None`` where the study has no fidelity.

        Raises:
            OSError: A directory or file cannot be written.
        """
        place = Path(f"trial-{trial:06d}") / f"attempt-{attempt}"
        directory = _fresh(layout.work_dir.resolve() / place)
        cwd = Path.cwd()
        if layout.cwd_per_trial is not None:
            cwd = _fresh(layout.cwd_per_trial.resolve() / place)
        result = layout.result_file
        workspace = cls(
            directory=directory,
            cwd=cwd,
            params_file=directory / "params.json",
            report_file=directory / "report.jsonl",
            result_file=directory / "result.json" if result is None else cwd / result,
            stop_file=directory / "stop",
            stage=stage,
            checkpoint_dir=None
            if stage is None
            else _checkpoint_dir(layout.work_dir.resolve(), stage.configuration or trial),
        )
        # What an earlier trial left there must not be taken for this one's result.
        workspace.result_file.unlink(missing_ok=True)
        workspace.params_file.write_text(
            json.dumps(dict(parameters), indent=1) + "\n", encoding="utf-8"
        )
        run = workspace.invocation(study, trial, attempt, parameters)
        for template in layout.templates:
            target = cwd / template.target
            target.parent.mkdir(parents=True, exist_ok=True)
            text = expand_text(template.word, run, environment)
            target.write_text(text, encoding="utf-8")
        return workspace

    def invocation(
        self, study: str, trial: int, attempt: int, parameters: Mapping[str, ParamValue]
    ) -> Invocation:
        """Return what the command's macros stand for here."""
        return Invocation(
            study=study,
            trial=trial,
            attempt=attempt,
            parameters=parameters,
            params_file=self.params_file,
            report_file=self.report_file,
            result_file=self.result_file,
            stage=self.stage,
            checkpoint_dir=self.checkpoint_dir,
        )

    def environment(
        self, run: Invocation, *, server: str, inherited: Mapping[str, str]
    ) -> dict[str, str]:
        """Return the child's whole environment.

        Args:
            run: The trial.
            server: Address of the server.
            inherited: The worker's environment; its trial variables are not passed on.
        """
        kept = {
            name: value
            for name, value in inherited.items()
            if not name.startswith("BBOPT_PARAM_") and name not in _TRIAL_VARIABLES
        }
        return kept | {
            "BBOPT_SERVER": server,
            "BBOPT_STUDY": run.study,
            "BBOPT_TRIAL": str(run.trial),
            "BBOPT_ATTEMPT": str(run.attempt),
            "BBOPT_PARAMS_FILE": str(self.params_file),
            "BBOPT_REPORT_FILE": str(self.report_file),
            "BBOPT_RESULT_FILE": str(self.result_file),
            "BBOPT_STOP_FILE": str(self.stop_file),
            **stage_variables(run),
            **parameter_variables(run.parameters),
        }


_TRIAL_VARIABLES = frozenset(
    {
        "BBOPT_ATTEMPT",
        "BBOPT_BUDGET",
        "BBOPT_CHECKPOINT_DIR",
        "BBOPT_PARAMS_FILE",
        "BBOPT_REPORT_FILE",
        "BBOPT_RESULT_FILE",
        "BBOPT_RESUME_FROM",
        "BBOPT_STOP_FILE",
        "BBOPT_STUDY",
        "BBOPT_TRIAL",
    }
)


def stage_variables(run: Invocation) -> dict[str, str]:
    """Say how far to evaluate and what to continue; nothing where there is no fidelity."""
    if run.stage is None:
        return {}
    variables = {
        "BBOPT_BUDGET": str(run.stage.fidelity),
        "BBOPT_CHECKPOINT_DIR": str(run.checkpoint_dir or ""),
    }
    if run.stage.resume_from is not None:
        variables["BBOPT_RESUME_FROM"] = str(run.stage.resume_from)
    return variables


def parameter_variables(parameters: Mapping[str, ParamValue]) -> dict[str, str]:
    """Name each parameter's environment variable: ``learning rate`` is
    ``BBOPT_PARAM_LEARNING_RATE``. Parameters whose variables would clash have none.
    """
    variables = {name: _variable(name) for name in parameters}
    counts = Counter(variables.values())
    return {
        variable: to_text(parameters[name])
        for name, variable in variables.items()
        if counts[variable] == 1
    }


def check_shared_files(
    *, parallel: int, cwd_per_trial: bool, templates: Sequence[str], result: str | None
) -> None:
    """Refuse files that trials running at the same time would overwrite.

    Args:
        parallel: Trials that run at the same time.
        cwd_per_trial: Whether each trial has a directory of its own.
        templates: Values of ``--template``.
        result: Value of ``--result``.

    Raises:
        InvalidError: They would.
    """
    if parallel == 1 or cwd_per_trial:
        return
    options = [f"--template {text}" for text in templates]
    options += [] if result is None else [f"--result {result}"]
    if options:
        raise InvalidError(
            [
                Violation(
                    option,
                    "trials that run at the same time would share this file; "
                    "add --cwd-per-trial DIR",
                )
                for option in options
            ]
        )


def _variable(name: str) -> str:
    return "BBOPT_PARAM_" + _NOT_IN_VARIABLE.sub("_", name.upper())


def _checkpoint_dir(work_dir: Path, configuration: int) -> Path:
    directory = work_dir / "checkpoints" / f"configuration-{configuration:06d}"
    directory.mkdir(parents=True, exist_ok=True)
    return directory


def _fresh(directory: Path) -> Path:
    """Make a directory; an earlier one of the same name moves aside, it is not lost."""
    for suffix in range(1, 1000):
        if not directory.exists():
            break
        aside = directory.with_name(f"{directory.name}.old-{suffix}")
        if not aside.exists():
            directory.rename(aside)
            break
    directory.mkdir(parents=True)
    return directory


def discard(directory: Path) -> None:
    """Delete an attempt's directory, and the trial's when it is empty then."""
    shutil.rmtree(directory, ignore_errors=True)
    try:
        directory.parent.rmdir()
    except OSError:
        return
