"""Study files: what they say, and every fault with its line."""

import json
from dataclasses import replace

import pytest
from hypothesis import Phase, assume, given, settings
from hypothesis import strategies as st

from bbopt.problem import Budget, Fidelity, Goal, Metric, MetricKind, Noise, Problem
from bbopt.space import (
    AllOf,
    Between,
    Bool,
    Categorical,
    Condition,
    Equals,
    Exclude,
    Fixed,
    Float,
    Int,
    Linear,
    Ordinal,
    Parameter,
    Scale,
    Simplex,
    Space,
)
from bbopt.specs import (
    AshaSpec,
    AutoSpec,
    CmaEsSpec,
    GPSpec,
    LeasePolicy,
    Promotion,
    Quality,
    SobolSpec,
    StudySpec,
)
from bbopt_client.cli.study_files import StudyFileError, load_study_file, read_study_text
from bbopt_client.cli.study_files.space_text import SpaceTextError, parse_space_option
from bbopt_client.cli.study_files.writer import UnwritableError, to_definition, to_yaml
from tests.properties.spaces import spaces

FULL = """\
name: digits
project: vision
parameters:
  lr: {type: float, low: 1e-5, high: 1e-1, scale: log, default: 1e-3}
  layers: {type: int, low: 1, high: 8, step: 1}
  width: {type: ordinal, values: [32, 64, 128]}
  optimizer: {type: categorical, choices: [adam, sgd, no]}
  momentum:
    type: float
    low: 0
    high: 0.99
    when: {optimizer: sgd, layers: {low: 2, high: 8}}
  nesterov: {type: bool, when: {optimizer: [sgd, no]}}
  a: float(0, 1)
  b: float(0, 1)
  version: {type: fixed, value: 3}
parameter_constraints:
  - a + 2*b <= 1
  - simplex: {names: [a, b], total: 1}
  - exclude: {optimizer: no, layers: 1}
objective: {name: loss, goal: minimize, noise: reported}
constraints:
  - latency_ms <= 20
  - {name: qps, lower: 100}
metrics: [grad_norm]
cost: gpu_s
budget: {trials: 40, cost: 1e3}
strategy: {name: gp, n_initial: 5, quality: fast}
seed: 18446744073709551615
lease: {duration: 2m, max_attempts: 5}
labels: {team: vision}
"""

SHORT = "parameters: {x: 'float(0,1)'}\nobjective: -loss\n"


def read(text: str) -> StudySpec:
    return read_study_text(text, "study.yaml").spec


def faults(text: str) -> list[str]:
    with pytest.raises(StudyFileError) as refused:
        read_study_text(text, "study.yaml")
    return str(refused.value).splitlines()


def test_a_full_file_says_everything() -> None:
    definition = read_study_text(FULL, "study.yaml")
    assert (definition.name, definition.project) == ("digits", "vision")
    assert definition.labels == {"team": "vision"}
    spec = definition.spec
    assert spec.problem.space.parameters == (
        Float("lr", 1e-5, 1e-1, Scale.LOG, default=1e-3),
        Int("layers", 1, 8),
        Ordinal("width", (32, 64, 128)),
        Categorical("optimizer", ("adam", "sgd", "no")),
        Float(
            "momentum",
            0,
            0.99,
            active_if=AllOf((Equals("optimizer", ("sgd",)), Between("layers", 2.0, 8.0))),
        ),
        Bool("nesterov", active_if=Equals("optimizer", ("sgd", "no"))),
        Float("a", 0, 1),
        Float("b", 0, 1),
        Fixed("version", 3),
    )
    assert spec.problem.space.constraints == (
        Linear({"a": 1, "b": 2}, upper=1),
        Simplex(("a", "b")),
        Exclude((Equals("optimizer", ("no",)), Equals("layers", (1,)))),
    )
    assert spec.problem.metrics == (
        Metric("loss", MetricKind.OBJECTIVE, Goal.MINIMIZE, noise=Noise.REPORTED),
        Metric("latency_ms", MetricKind.CONSTRAINT, upper=20.0),
        Metric("qps", MetricKind.CONSTRAINT, lower=100.0),
        Metric("grad_norm", MetricKind.TRACKED),
        Metric("gpu_s", MetricKind.COST),
    )
    assert spec.problem.budget == Budget(40, 1000.0)
    assert spec.strategy == GPSpec(5, Quality.FAST)
    assert spec.seed == 2**64 - 1
    assert spec.lease == LeasePolicy(120.0, 5)


def test_a_short_file_has_the_defaults() -> None:
    spec = read(SHORT)
    assert (spec.strategy, spec.seed, spec.lease) == (AutoSpec(), None, LeasePolicy())
    assert spec.problem.budget == Budget()


def test_json_is_a_study_file_too() -> None:
    text = json.dumps({"parameters": {"x": "float(0,1)"}, "objective": "-loss"}, indent=2)
    assert read(text) == read(SHORT)


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ("budget: 40", Budget(40)),
        ("budget: {trials: 40}", Budget(40)),
    ],
)
def test_a_budget_may_be_a_number(lines: str, expected: Budget) -> None:
    assert read(SHORT + lines).problem.budget == expected


def test_a_strategy_may_be_a_name() -> None:
    assert read(SHORT + "strategy: sobol").strategy == SobolSpec()


def test_settings_of_cma_es() -> None:
    text = SHORT + "strategy: {name: cma_es, sigma0: 0.1, population: 40, quorum: 0.8}"
    assert read(text).strategy == CmaEsSpec(0.1, 40, 0.8)
    assert read(SHORT + "strategy: cma_es").strategy == CmaEsSpec()


def test_a_fidelity_and_how_it_is_searched() -> None:
    spec = read(
        SHORT + "fidelity: {name: epochs, low: 1, high: 81}\n"
        "strategy: {name: asha, promotion: continue}"
    )
    assert spec.problem.fidelity == Fidelity("epochs", 1, 81, eta=3)
    assert spec.strategy == AshaSpec(Promotion.CONTINUE)


@pytest.mark.parametrize(
    ("lines", "fault"),
    [
        ("fidelity: {name: epochs, low: 1}", "fidelity.high: is missing"),
        ("fidelity: {name: epochs, low: 1, high: 2}", "fidelity.high: must be at least"),
        ("fidelity: {name: e, low: 1, high: 9, et: 3}", "fidelity.et"),
        ("strategy: {name: asha, promotion: on}", "strategy.promotion: 'on' is none of resume"),
    ],
)
def test_what_is_wrong_with_a_fidelity_is_said_with_its_line(lines: str, fault: str) -> None:
    with pytest.raises(StudyFileError) as caught:
        read(SHORT + lines)
    assert fault in str(caught.value)
    assert "study.yaml:3" in str(caught.value)


def test_leases_that_never_expire() -> None:
    assert read(SHORT + "lease: {duration: 0}").lease.duration_s == 0


def test_words_of_older_yaml_are_text_and_short_floats_are_numbers() -> None:
    spec = read(
        "parameters:\n"
        "  c: {type: categorical, choices: [no, off, yes, 1:30, 0x1F]}\n"
        "  x: {type: float, low: 1e-3, high: 1E2}\n"
        "objective: y\n"
    )
    assert spec.problem.space.parameters == (
        Categorical("c", ("no", "off", "yes", "1:30", "0x1F")),
        Float("x", 1e-3, 100.0),
    )


def test_every_fault_is_listed_with_its_line() -> None:
    text = """\
nme: digits
parameters:
  lr: {type: float, low: 1e-1, high: 1e-5, scale: lg}
  n: int(1)
  n: bool
  opt: {type: categorical, choises: [adam, sgd]}
  mom: {type: flaot, low: 0, high: 1}
  q: {type: int, low: 1.5, high: 3, when: {opt: adam, nobody: 1}}
parameter_constraints:
  - a * b <= 1
  - q + mom + r <= 1
objective: loss <= 3
constraints: [latency_ms]
strategy: gpp
seed: -1
lease: {duration: 2y}
"""
    assert faults(text) == [
        "study.yaml:1: nme: unknown key; did you mean 'name'?",
        "study.yaml:3: parameters[lr].low: low 0.1 is above high 1e-05",
        "study.yaml:3: parameters[lr].scale: must be one of linear, log, reverse_log, logit, "
        "got 'lg'",
        "study.yaml:4: parameters[n]: 'int(1)': needs low, high and perhaps a scale",
        "study.yaml:5: parameters.n: is there twice, first in line 4",
        "study.yaml:6: parameters[opt].choices: is missing",
        "study.yaml:6: parameters[opt].choises: unknown key; did you mean 'choices'?",
        "study.yaml:7: parameters[mom].type: 'flaot' is none of float, int, ordinal, "
        "categorical, bool, fixed",
        "study.yaml:8: parameters[q].active_if.conditions[1].parent: there is no parameter "
        "'nobody'",
        "study.yaml:8: parameters[q].low: must be an integer, got float 1.5",
        "study.yaml:10: parameter_constraints[0]: 'a * b <= 1' a product of two parameters is "
        "not linear",
        "study.yaml:11: parameter_constraints[1].coefficients[r]: there is no parameter 'r'",
        "study.yaml:12: objective: 'loss <= 3' is no objective; write it like -loss or "
        "accuracy",
        "study.yaml:13: constraints[0]: 'latency_ms' is no constraint; write it like "
        "latency_ms <= 20",
        "study.yaml:14: strategy: 'gpp' is none of auto, random, sobol, gp, cma_es, asha",
        "study.yaml:15: seed: must be in [0, 2**64), got -1",
        "study.yaml:16: lease.duration: '2y' is not a duration such as 90, 30s, 5m, 2h or 1d",
    ]


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("", None, "is empty"),
        ("- a\n- b", 1, "must be a map"),
        ("a: [1", 1, "is not YAML"),
        ("a: 1\n\tb: 2", 2, "is not YAML"),
        ("a: \x00", None, "is not YAML"),
        ("a: &x 1\nb: *x", 2, "aliases are not supported"),
        ("a: &x [*x]", 1, "aliases are not supported"),
        ("a: !!python/object/apply:os.system ['true']\n" + SHORT, 1, "is not supported"),
        ("? [a]\n: 1\n" + SHORT, 1, "a key must be plain text"),
        ("a: " + "[" * 5000, 1, "nested too deeply"),
        ("objective: -loss", 1, "parameters: is missing"),
        ("parameters: {x: 'float(0,1)'}", 1, "objective: is missing"),
        ("parameters: 3\nobjective: y", 1, "must be a map"),
        ("parameters: {x: 3}\nobjective: y", 1, "must be a map such as"),
        ("parameters:\n  x: {low: 0, high: 1}\nobjective: y", 2, "type: is missing"),
        ("parameters:\n  x: {type: float, low: 0}\nobjective: y", 2, "high: is missing"),
        (
            "parameters:\n  x: float(0,1)\n  y: {type: bool, when: {z: 1}}\nobjective: -l",
            3,
            "there is no parameter 'z'",
        ),
        (SHORT + "parameter_constraints: [x + z <= 1]", 3, "there is no parameter 'z'"),
        (SHORT + "parameter_constraints: [3]", 3, "must be text such as"),
        (SHORT + "parameter_constraints: [{exclude: {x: {low: 0}}}]", 3, "high: is missing"),
        (SHORT + "budget: 0", 3, "must be a whole number in [1, "),
        (SHORT + "budget: many", 3, "must be an integer"),
        (SHORT + "budget: {trials: 1.5}", 3, "must be an integer"),
        (SHORT + "budget: true", 3, "must be an integer"),
        (SHORT + "budget: {cost: 3}", 3, "needs a metric of kind cost"),
        (SHORT + "strategy: {name: gp, n_intial: 3}", 3, "did you mean 'n_initial'"),
        (SHORT + "strategy: {name: gp, quality: best}", 3, "is none of fast"),
        (SHORT + "strategy: {quality: fast}", 3, "name: is missing"),
        (SHORT + "strategy: {name: cma_es, quorum: 2}", 3, "must be in [0.5, 1]"),
        (SHORT + "strategy: {name: cma_es, sigma: 2}", 3, "did you mean 'sigma0'"),
        (SHORT + "lease: {max_attempts: 0}", 3, "lease.max_attempts: must be in [1, "),
        (SHORT + "lease: {duration: 31d}", 3, "lease.duration: must be at most 30 days"),
        (SHORT + "trials: 40", 3, "trials: unknown key; did you mean 'budget'?"),
        (SHORT + "labels: {a: [1]}", 3, "must be text"),
        (SHORT + "constraints: [loss <= 3]", 3, "loss"),
        (SHORT + "metrics: [{name: m, lower: 3}]", 3, "unknown key"),
        (SHORT + "seed: 18446744073709551616", 3, "must be in"),
        (SHORT + "name: my study", 3, "name: must be 1 to 128 of A-Z a-z 0-9"),
        (SHORT + "project: a/b", 3, "project: must be 1 to 128 of A-Z a-z 0-9"),
    ],
)
def test_a_fault_is_named_with_its_line(text: str, line: int | None, message: str) -> None:
    found = faults(text)
    where = "study.yaml: " if line is None else f"study.yaml:{line}: "
    assert any(each.startswith(where) and message in each for each in found), found


def test_a_file_that_cannot_be_read_is_a_fault(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    folder = tmp_path_factory.mktemp("files")
    (folder / "latin.yaml").write_bytes(b"name: \xff")
    with pytest.raises(StudyFileError, match="is not UTF-8"):
        load_study_file(str(folder / "latin.yaml"))
    with pytest.raises(StudyFileError, match="cannot be read"):
        load_study_file(str(folder / "missing.yaml"))


@given(st.text(max_size=200))
def test_no_text_brings_the_reader_down(text: str) -> None:
    try:
        read(text)
    except StudyFileError as error:
        assert error.faults  # noqa: PT017 - either answer is fine, no other exception is


def leaves(condition: Condition) -> list[Condition]:
    if isinstance(condition, AllOf):
        return [leaf for child in condition.conditions for leaf in leaves(child)]
    return [condition]


def flattened(space: Space) -> Space:
    """The same space as a study file has it: nested conjunctions are one."""

    def joined(condition: Condition) -> Condition:
        found = leaves(condition)
        return found[0] if len(found) == 1 else AllOf(tuple(found))

    return Space(
        tuple(
            parameter
            if isinstance(parameter, Fixed) or parameter.active_if is None
            else replace(parameter, active_if=joined(parameter.active_if))
            for parameter in space.parameters
        ),
        tuple(
            Exclude(tuple(leaf for each in constraint.all_of for leaf in leaves(each)))
            if isinstance(constraint, Exclude)
            else constraint
            for constraint in space.constraints
        ),
    )


@settings(max_examples=50, phases=[Phase.explicit, Phase.reuse, Phase.generate])
@given(spaces())
def test_a_space_that_is_written_reads_back(space: Space) -> None:
    space = flattened(space)
    spec = StudySpec(Problem(space, (Metric.parse("-the_loss"),), Budget(7)), seed=3)
    try:
        definition = to_definition(spec, name="s")
    except UnwritableError:
        # Two conditions on one parent have no form in a file; it says so.
        assume(False)
    assert read(to_yaml(definition)) == spec
    assert read(json.dumps(definition)) == spec


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("lr:float(1e-5,1e-1,log)", Float("lr", 1e-5, 1e-1, Scale.LOG)),
        ("x:float(0, 1, step=0.25, default=0.5)", Float("x", 0, 1, step=0.25, default=0.5)),
        ("x:float(0,1,scale=logit)", Float("x", 0, 1, Scale.LOGIT)),
        ("n:int(1,64,log,default=8)", Int("n", 1, 64, Scale.LOG, default=8)),
        ("n:int(0,10,step=5)", Int("n", 0, 10, step=5)),
        ("w:ordinal(1, 2, 4)", Ordinal("w", (1, 2, 4))),
        (
            "c:categorical(relu, tanh,default=relu)",
            Categorical("c", ("relu", "tanh"), default="relu"),
        ),
        ('c:categorical("a,b", "c)")', Categorical("c", ("a,b", "c)"))),
        ("learning rate:bool", Bool("learning rate")),
        ("b:bool(default=true)", Bool("b", default=True)),
        ("v:fixed(3)", Fixed("v", 3)),
        ("v:fixed(a b)", Fixed("v", "a b")),
    ],
)
def test_a_parameter_in_one_line(text: str, expected: Parameter) -> None:
    assert parse_space_option(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        ":float(0,1)",
        "x:",
        "x:real(0,1)",
        "x:float",
        "x:float(0)",
        "x:float(0,1,2)",
        "x:float(0,b)",
        "x:float(0,1,log,scale=log)",
        "n:int(0.5,1)",
        "x:float(0,1",
        "b:bool(1)",
        "b:bool(default=1)",
        "c:categorical(a,step=1)",
        "v:fixed()",
        'c:categorical("a)',
    ],
)
def test_what_is_no_parameter_is_refused(text: str) -> None:
    with pytest.raises(SpaceTextError):
        parse_space_option(text)
