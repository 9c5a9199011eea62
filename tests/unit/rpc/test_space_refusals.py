import pytest

from bbopt.errors import SpecError
from bbopt.rpc.constraints import constraint_from_message
from bbopt.rpc.space import parameter_from_message, space_from_message
from bbopt.rpc.v1 import study_pb2
from bbopt.space import Float, Int

ParameterSpec = study_pb2.ParameterSpec
ParamValue = study_pb2.ParamValue

A_FLOAT = study_pb2.DoubleDomain(min=0.0, max=1.0)
AN_INT = study_pb2.IntegerDomain(min=0, max=9)


def faults_of(message: ParameterSpec) -> dict[str, str]:
    with pytest.raises(SpecError) as caught:
        parameter_from_message(message)
    return {each.field: each.message for each in caught.value.violations}


def test_a_whole_double_is_no_default_for_an_int() -> None:
    default = ParamValue(double_value=3.0)
    message = ParameterSpec(id="n", integer_domain=AN_INT, default_value=default)
    assert faults_of(message) == {"default_value": "must be an integer, not 3.0"}


def test_a_bool_is_no_number() -> None:
    default = ParamValue(bool_value=True)
    for domain in ({"integer_domain": AN_INT}, {"double_domain": A_FLOAT}):
        message = ParameterSpec(id="n", default_value=default, **domain)
        assert list(faults_of(message)) == ["default_value"]


def test_an_int_is_a_default_for_a_float() -> None:
    message = ParameterSpec(
        id="x", double_domain=A_FLOAT, default_value=ParamValue(int_value=1)
    )
    read = parameter_from_message(message)
    assert isinstance(read, Float)
    assert isinstance(read.default, float)
    assert read.default == 1.0


@pytest.mark.parametrize(
    "message",
    [
        ParameterSpec(id="o", ordinal_domain=study_pb2.OrdinalDomain(values=[1, 2])),
        ParameterSpec(id="b", bool_domain=study_pb2.BoolDomain()),
        ParameterSpec(id="n", integer_domain=AN_INT),
    ],
)
def test_a_string_is_no_default_for_anything_but_a_category(message: ParameterSpec) -> None:
    message.default_value.string_value = "1"
    assert list(faults_of(message)) == ["default_value"]


def test_every_fault_of_a_parameter_is_listed() -> None:
    message = ParameterSpec(
        role=ParameterSpec.ROLE_FIDELITY,
        double_domain=study_pb2.DoubleDomain(scale=99),  # type: ignore[arg-type]
        active_if=study_pb2.Condition(
            all_of=study_pb2.Condition.AllOf(
                conditions=[
                    study_pb2.Condition(),
                    study_pb2.Condition(
                        equals=study_pb2.Condition.Equals(values=[ParamValue()])
                    ),
                ]
            )
        ),
        default_value=ParamValue(),
    )
    assert set(faults_of(message)) == {
        "id",
        "role",
        "double_domain.scale",
        "default_value",
        "active_if.all_of.conditions[0]",
        "active_if.all_of.conditions[1].equals.parent",
        "active_if.all_of.conditions[1].equals.values[0]",
    }


def test_a_parameter_needs_a_domain() -> None:
    assert faults_of(ParameterSpec(id="x")) == {"domain": "must be set"}


def test_a_fixed_parameter_has_a_value_and_neither_condition_nor_default() -> None:
    message = ParameterSpec(id="k", fixed_domain=study_pb2.FixedDomain())
    message.default_value.int_value = 1
    message.active_if.between.parent = "x"
    assert set(faults_of(message)) == {"active_if", "default_value", "fixed_domain.value"}


def test_zero_steps_mean_the_defaults() -> None:
    read_float = parameter_from_message(ParameterSpec(id="x", double_domain=A_FLOAT))
    read_int = parameter_from_message(ParameterSpec(id="n", integer_domain=AN_INT))
    assert (read_float, read_int) == (Float("x", 0.0, 1.0), Int("n", 0, 9))


@pytest.mark.parametrize(
    ("message", "field"),
    [
        (study_pb2.ParameterConstraint(), ""),
        (
            study_pb2.ParameterConstraint(linear=study_pb2.ParameterConstraint.Linear()),
            "linear.coefficients",
        ),
        (
            study_pb2.ParameterConstraint(simplex=study_pb2.ParameterConstraint.Simplex()),
            "simplex.ids",
        ),
        (
            study_pb2.ParameterConstraint(exclude=study_pb2.ParameterConstraint.Exclude()),
            "exclude.all_of",
        ),
    ],
)
def test_an_empty_constraint_is_refused(
    message: study_pb2.ParameterConstraint, field: str
) -> None:
    with pytest.raises(SpecError) as caught:
        constraint_from_message(message)
    assert [each.field for each in caught.value.violations] == [field]


def test_the_position_of_a_faulty_parameter_is_in_its_path() -> None:
    good = ParameterSpec(id="x", double_domain=A_FLOAT)
    with pytest.raises(SpecError) as caught:
        space_from_message([good, ParameterSpec(id="y")], [])
    assert [each.field for each in caught.value.violations] == ["parameters[1].domain"]


def test_what_the_domain_refuses_is_reported_under_the_fields_of_the_message() -> None:
    wrong = ParameterSpec(id="x", double_domain=study_pb2.DoubleDomain(min=2.0, max=1.0))
    with pytest.raises(SpecError) as caught:
        space_from_message([wrong], [])
    assert [each.field for each in caught.value.violations] == [
        "parameters[0].double_domain.min"
    ]
