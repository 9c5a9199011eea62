"""Paths of the library -> paths of the message that was read."""

import pytest
from google.protobuf import text_format

from bbopt.errors import SpecError, Violation
from bbopt.rpc.paths import located_in, on_point, wire_path
from bbopt.rpc.v1 import study_pb2

PARAMETERS = """
parameters { id: "lr" double_domain { min: 2 max: 1 } }
parameters { id: "n" integer_domain { min: 1 max: 9 } default_value { int_value: 3 } }
parameters { id: "c" categorical_domain { values: "a" values: "a" } }
parameters { id: "o" ordinal_domain { values: 1 } }
parameters { id: "k" fixed_domain { value { int_value: 1 } } }
parameters { id: "a.b [1]" bool_domain {}
  active_if { all_of { conditions { equals { parent: "c" values { string_value: "z" } } } } } }
parameters { id: "" bool_domain {} }
parameters { id: "lr" bool_domain {} active_if { between { parent: "n" low: 1 high: 2 } } }
"""
REST = """
parameter_constraints { linear { coefficients { key: "lr" value: 1 } upper: 1 } }
parameter_constraints { simplex { ids: "lr" ids: "n" total: 1 } }
parameter_constraints { exclude { all_of { equals { parent: "q" } } } }
metrics { id: "loss" kind: KIND_OBJECTIVE } metrics { id: "" kind: KIND_TRACKED }
budget { max_trials: 0 } fidelity { id: "" } lease { max_attempts: 1 } strategy { gp {} }
"""


def a_message() -> study_pb2.StudySpec:

    # The name with brackets is none that a study could have; it must not mislead all the same.
    return text_format.Parse(PARAMETERS + REST, study_pb2.StudySpec())


@pytest.mark.parametrize(
    ("python", "wire"),
    [
        ("parameters", "parameters"),
        ("parameters[lr].low", "parameters[0].double_domain.min"),
        ("parameters[lr].high", "parameters[0].double_domain.max"),
        ("parameters[lr].name", "parameters[7].id"),
        ("parameters[n].step", "parameters[1].integer_domain.step"),
        ("parameters[n].default", "parameters[1].default_value"),
        ("parameters[c].choices[1]", "parameters[2].categorical_domain.values[1]"),
        ("parameters[o].values[0]", "parameters[3].ordinal_domain.values[0]"),
        ("parameters[k].value", "parameters[4].fixed_domain.value"),
        (
            "parameters[5].active_if.conditions[0].values[0]",
            "parameters[5].active_if.all_of.conditions[0].equals.values[0]",
        ),
        ("parameters[6].name", "parameters[6].id"),
        ("parameters[7].active_if.low", "parameters[7].active_if.between.low"),
        ("constraints[0].coefficients[lr]", "parameter_constraints[0].linear.coefficients[lr]"),
        ("constraints[0].lower", "parameter_constraints[0].linear.lower"),
        ("constraints[1].names[1]", "parameter_constraints[1].simplex.ids[1]"),
        (
            "constraints[2].all_of[0].parent",
            "parameter_constraints[2].exclude.all_of[0].equals.parent",
        ),
        ("metrics[loss].goal", "metrics[0].goal"),
        ("metrics[1].name", "metrics[1].id"),
        ("budget.trials", "budget.max_trials"),
        ("budget.cost", "budget.max_cost"),
        ("fidelity.name", "fidelity.id"),
        ("fidelity.high", "fidelity.high"),
        ("strategy", "strategy"),
        ("nothing.like[it].at[0]", "nothing.like[it].at[0]"),
        ("parameters[99].low", "parameters[99].low"),
    ],
)
def test_a_path_of_the_library_is_found_in_the_message(python: str, wire: str) -> None:
    assert wire_path(a_message(), python) == wire


def test_an_error_keeps_its_class_and_its_messages() -> None:
    with pytest.raises(SpecError) as caught, located_in(a_message()):
        raise SpecError.of("budget.trials", "must be at least 1")
    assert caught.value.violations == (Violation("budget.max_trials", "must be at least 1"),)


def test_a_violated_constraint_is_a_fault_of_the_whole_point() -> None:
    found = on_point(
        [Violation("constraints[1]", "1 is not 2"), Violation("parameters[x]", "a")]
    )
    assert found == [
        Violation("parameters", "violates parameter_constraints[1]: 1 is not 2"),
        Violation("parameters[x]", "a"),
    ]
