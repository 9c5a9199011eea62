"""Reads a study file into the domain's classes, reporting every fault with its line.

::

    name: digits
    parameters:
      lr: {type: float, low: 1e-5, high: 1e-1, scale: log}
      optimizer: {type: categorical, choices: [adam, sgd]}
      momentum: {type: float, low: 0, high: 0.99, when: {optimizer: sgd}}
    objective: -loss
    constraints: [latency_ms <= 20]
    budget: 40
"""

import sys
from enum import Enum
from pathlib import Path
from typing import TypeVar

from bbopt.errors import InvalidError, SpecError
from bbopt.problem import Budget, Fidelity, Metric, Problem
from bbopt.rpc.names import check_id
from bbopt.space import Constraint, Exclude, Float, Simplex, Space
from bbopt.space.space import space_violations
from bbopt.space.validation import Unread
from bbopt.specs import (
    NAMES,
    AshaSpec,
    AutoSpec,
    CmaEsSpec,
    GPSpec,
    LeasePolicy,
    Promotion,
    Quality,
    StrategySpec,
    StudySpec,
)
from bbopt_client.cli.study_files.definition import StudyDefinition
from bbopt_client.cli.study_files.faults import Fault, FaultList, StudyFileError
from bbopt_client.cli.study_files.fields import Fields, scalar_values
from bbopt_client.cli.study_files.linear import LinearSyntaxError, parse_linear
from bbopt_client.cli.study_files.metrics import read_metrics
from bbopt_client.cli.study_files.nodes import (
    MapNode,
    Node,
    ScalarNode,
    describe,
    read_nodes,
)
from bbopt_client.cli.study_files.parameters import read_conditions, read_parameters

E = TypeVar("E", bound=Enum)

_KEYS = (
    "name",
    "project",
    "parameters",
    "parameter_constraints",
    "objective",
    "constraints",
    "metrics",
    "cost",
    "fidelity",
    "budget",
    "strategy",
    "seed",
    "lease",
    "labels",
)


_INSTEAD = {"trials": "budget", "space": "parameters", "goal": "objective"}
"""Words that people write for a key which they do not look like."""

_UNRELATED = Float("bbopt unrelated", 0.0, 1.0)
"""Stands in for a space that could not be read, so that the rest is checked."""


def load_study_file(path: str) -> StudyDefinition:
    """Read a study file; ``-`` is standard input.

    Raises:
        StudyFileError: The file cannot be read or defines no valid study.
    """
    try:
        if path == "-":
            return read_study_text(sys.stdin.read(), "standard input")
        return read_study_text(Path(path).read_text(encoding="utf-8-sig"), path)
    except UnicodeDecodeError as error:
        raise StudyFileError(path, [Fault("", f"is not UTF-8: {error.reason}")]) from error
    except OSError as error:
        message = f"cannot be read: {error.strerror or error}"
        raise StudyFileError(path, [Fault("", message)]) from error


def read_study_text(text: str, source: str) -> StudyDefinition:
    """Read the text of a study file.

    Args:
        text: YAML or JSON.
        source: The file's name, for messages.

    Raises:
        StudyFileError: It defines no valid study; every fault is listed.
    """
    faults = FaultList()
    root = read_nodes(text, source, faults)
    if not isinstance(root, MapNode):
        message = f"must be a map with parameters and objective, got {describe(root)}"
        raise StudyFileError(source, [Fault("", message, root.place)])
    definition = _read(Fields(root, "", faults))
    if faults or definition is None:
        raise StudyFileError(source, faults.as_list())
    return definition


def _read(fields: Fields) -> StudyDefinition | None:
    fields.mark_places()
    fields.refuse_unknown(_KEYS, instead=_INSTEAD)
    space = _read_space(fields)
    metrics = read_metrics(fields)
    fidelity = _read_fidelity(fields)
    budget = _read_budget(fields)
    strategy = _read_strategy(fields)
    lease = _read_lease(fields)
    seed = _read_seed(fields)
    labels = _read_labels(fields)
    name, project = _read_id(fields, "name"), _read_id(fields, "project")
    problem = _build_problem(space, metrics, budget, fidelity, fields.faults)
    if problem is None:
        return None
    return StudyDefinition(
        StudySpec(problem, strategy, seed, lease), name=name, project=project, labels=labels
    )


def _read_id(fields: Fields, key: str) -> str | None:
    text = fields.text(key)
    if text is not None:
        try:
            check_id(text)
        except InvalidError as error:
            fields.faults.add(key, error.violations[0].message)
    return text


def _read_space(fields: Fields) -> Space | None:
    faults = fields.faults
    n_before = len(faults.as_list())
    entries = fields.map("parameters")
    if entries is None:
        if fields.get("parameters") is None:
            fields.require("parameters")
        return None
    parameters = read_parameters(entries)
    constraints = [
        _read_constraint(node, f"parameter_constraints[{index}]", faults) or Unread("")
        for index, node in enumerate(fields.items("parameter_constraints"))
    ]
    try:
        if len(faults.as_list()) > n_before:
            raise SpecError(space_violations(parameters, constraints))
        return Space(tuple(parameters), tuple(constraints))  # type: ignore[arg-type]  # None is.
    except SpecError as error:
        faults.add_violations(error, renamed=("constraints[", "parameter_constraints["))
        return None


def _read_constraint(node: Node, path: str, faults: FaultList) -> Constraint | None:
    match node:
        case ScalarNode(str() as text):
            try:
                return parse_linear(text)
            except LinearSyntaxError as error:
                faults.add(path, f"{text!r} {error}", node.place)
                return None
        case MapNode(entries) if len(entries) == 1 and "simplex" in entries:
            return _read_simplex(Fields(node, path, faults))
        case MapNode(entries) if len(entries) == 1 and "exclude" in entries:
            conditions = read_conditions(Fields(node, path, faults), "exclude")
            return Exclude(conditions) if conditions else None
        case _:
            faults.add(
                path,
                "must be text such as 'x + 2*y <= 1', {simplex: [a, b]} or "
                f"{{exclude: {{a: 1}}}}, got {describe(node)}",
                node.place,
            )
            return None


def _read_simplex(fields: Fields) -> Constraint | None:
    node = fields.node.entries["simplex"]
    total: float = 1.0
    if isinstance(node, MapNode):
        inner = Fields(node, fields.path_of("simplex"), fields.faults)
        inner.refuse_unknown(("names", "total"))
        total = float(inner.number("total") or 1.0)
        names_node = inner.require("names")
        if names_node is None:
            return None
        node = names_node
    names = scalar_values(node, fields.path_of("simplex"), fields.faults)
    return None if names is None else Simplex(tuple(str(name) for name in names), total)


def _read_budget(fields: Fields) -> Budget:
    if isinstance(fields.get("budget"), ScalarNode):
        trials = fields.number("budget", is_integer=True)
        return Budget(trials=None if trials is None else int(trials))
    inner = fields.map("budget")
    if inner is None:
        return Budget()
    inner.mark_places()
    inner.refuse_unknown(("trials", "cost"))
    trials, cost = inner.number("trials", is_integer=True), inner.number("cost")
    return Budget(
        trials=None if trials is None else int(trials),
        cost=None if cost is None else float(cost),
    )


def _read_fidelity(fields: Fields) -> Fidelity | None:
    inner = fields.map("fidelity")
    if inner is None:
        return None
    inner.mark_places()
    inner.refuse_unknown(("name", "low", "high", "eta"))
    n_before = len(fields.faults.as_list())
    for key in ("name", "low", "high"):
        if inner.get(key) is None:
            inner.require(key)
    name = inner.text("name")
    low, high = (inner.number(key, is_integer=True) for key in ("low", "high"))
    eta = inner.number("eta", is_integer=True)
    if name is None or low is None or high is None or len(fields.faults.as_list()) > n_before:
        return None
    return Fidelity(name, int(low), int(high), 3 if eta is None else int(eta))


def _read_strategy(fields: Fields) -> StrategySpec:
    if isinstance(fields.get("strategy"), MapNode):
        inner = fields.map("strategy")
        name = inner.text("name") if inner is not None else None
        if inner is not None and name is None and inner.get("name") is None:
            inner.require("name")
    else:
        inner, name = None, fields.text("strategy")
    if name is None:
        return AutoSpec()
    if name not in NAMES:
        path = "strategy" if inner is None else "strategy.name"
        fields.faults.add(path, f"{name!r} is none of {', '.join(NAMES)}")
        return AutoSpec()
    build = NAMES[name]
    return build() if inner is None else _read_settings(inner, build)


def _read_settings(fields: Fields, build: type[StrategySpec]) -> StrategySpec:
    fields.mark_places()
    if build is GPSpec:
        fields.refuse_unknown(("name", "n_initial", "quality"), what="setting of gp")
        n_initial = fields.number("n_initial", is_integer=True)
        return GPSpec(None if n_initial is None else int(n_initial), _read_quality(fields))
    if build is CmaEsSpec:
        return _read_cma_es(fields)
    if build is AutoSpec:
        fields.refuse_unknown(("name", "quality"), what="setting of auto")
        return AutoSpec(_read_quality(fields))
    if build is AshaSpec:
        fields.refuse_unknown(("name", "promotion"), what="setting of asha")
        return AshaSpec(_read_member(fields, "promotion", Promotion.RESUME))
    fields.refuse_unknown(("name",), what="setting of this strategy")
    return build()


def _read_cma_es(fields: Fields) -> CmaEsSpec:
    default = CmaEsSpec()
    fields.refuse_unknown(("name", "sigma0", "population", "quorum"), what="setting of cma_es")
    sigma0, quorum = fields.number("sigma0"), fields.number("quorum")
    population = fields.number("population", is_integer=True)
    try:
        return CmaEsSpec(
            default.sigma0 if sigma0 is None else sigma0,
            None if population is None else int(population),
            default.quorum if quorum is None else quorum,
        )
    except SpecError as error:
        for each in error.violations:
            fields.faults.add(fields.path_of(each.field), each.message)
        return default


def _read_quality(fields: Fields) -> Quality:
    return _read_member(fields, "quality", Quality.BALANCED)


def _read_member(fields: Fields, key: str, default: E) -> E:
    text = fields.text(key)
    if text is None:
        return default
    kind = type(default)
    try:
        return kind(text)
    except ValueError:
        known = ", ".join(str(member.value) for member in kind)
        fields.faults.add(fields.path_of(key), f"{text!r} is none of {known}")
        return default


def _read_lease(fields: Fields) -> LeasePolicy:
    default = LeasePolicy()
    inner = fields.map("lease")
    if inner is None:
        return default
    inner.mark_places()
    inner.refuse_unknown(("duration", "max_attempts"))
    duration = inner.duration("duration")
    attempts = inner.number("max_attempts", is_integer=True)
    try:
        return LeasePolicy.of_new_study(
            default.duration_s if duration is None else duration,
            default.max_attempts if attempts is None else int(attempts),
        )
    except SpecError as error:
        names = {"duration_s": "duration", "max_attempts": "max_attempts"}
        for each in error.violations:
            inner.faults.add(inner.path_of(names[each.field]), each.message)
        return default


def _read_seed(fields: Fields) -> int | None:
    seed = fields.number("seed", is_integer=True)
    if seed is None:
        return None
    if not 0 <= seed < 2**64:
        fields.faults.add("seed", f"must be in [0, 2**64), got {seed}")
        return None
    return int(seed)


def _read_labels(fields: Fields) -> dict[str, str]:
    inner = fields.map("labels")
    if inner is None:
        return {}
    found = {key: inner.text(key) for key in inner.node.entries}
    return {key: value for key, value in found.items() if value is not None}


def _build_problem(
    space: Space | None,
    metrics: list[Metric],
    budget: Budget,
    fidelity: Fidelity | None,
    faults: FaultList,
) -> Problem | None:
    try:
        problem = Problem(space or Space((_UNRELATED,)), tuple(metrics), budget, fidelity)
    except SpecError as error:
        # Without an objective that could be read, its absence was noted already.
        if metrics or not faults:
            faults.add_violations(error)
        return None
    return None if space is None else problem
