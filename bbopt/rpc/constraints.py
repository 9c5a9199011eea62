"""Conditions and the constraints between parameters <-> messages."""

from typing import assert_never

from bbopt.errors import SpecError
from bbopt.rpc.points import param_value_from_message, param_value_to_message
from bbopt.rpc.v1 import study_pb2
from bbopt.rpc.violations import Violations
from bbopt.space import (
    AllOf,
    Between,
    Condition,
    Constraint,
    Equals,
    Exclude,
    Linear,
    Simplex,
)


def condition_to_message(condition: Condition) -> study_pb2.Condition:
    """Write a condition."""
    match condition:
        case Equals(parent, values):
            return study_pb2.Condition(
                equals=study_pb2.Condition.Equals(
                    parent=parent, values=[param_value_to_message(each) for each in values]
                )
            )
        case Between(parent, low, high):
            return study_pb2.Condition(
                between=study_pb2.Condition.Between(parent=parent, low=low, high=high)
            )
        case AllOf(conditions):
            return study_pb2.Condition(
                all_of=study_pb2.Condition.AllOf(
                    conditions=[condition_to_message(child) for child in conditions]
                )
            )
        case _:
            assert_never(condition)


def condition_from_message(message: study_pb2.Condition) -> Condition:
    """Read a condition.

    Raises:
        SpecError: A part is missing.
    """
    violations = Violations(SpecError)
    match message.WhichOneof("kind"):
        case "equals":
            equals = message.equals
            violations.require(equals.parent, "equals.parent", "must name a parameter")
            violations.require(equals.values, "equals.values", "must have a value")
            values = violations.each("equals.values", param_value_from_message, equals.values)
            violations.check()
            return Equals(equals.parent, values)
        case "between":
            between = message.between
            violations.require(between.parent, "between.parent", "must name a parameter")
            violations.check()
            return Between(between.parent, between.low, between.high)
        case "all_of":
            children = message.all_of.conditions
            violations.require(children, "all_of.conditions", "must have a condition")
            parts = violations.each("all_of.conditions", condition_from_message, children)
            violations.check()
            return AllOf(parts)
        case None:
            raise SpecError.of("", "must be one of equals, between, all_of")


def constraint_to_message(constraint: Constraint) -> study_pb2.ParameterConstraint:
    """Write a constraint between parameters; an infinite bound is left out."""
    match constraint:
        case Linear(coefficients, lower, upper):
            linear = study_pb2.ParameterConstraint.Linear(coefficients=coefficients)
            if lower != float("-inf"):
                linear.lower = lower
            if upper != float("inf"):
                linear.upper = upper
            return study_pb2.ParameterConstraint(linear=linear)
        case Simplex(names, total):
            return study_pb2.ParameterConstraint(
                simplex=study_pb2.ParameterConstraint.Simplex(ids=names, total=total)
            )
        case Exclude(all_of):
            return study_pb2.ParameterConstraint(
                exclude=study_pb2.ParameterConstraint.Exclude(
                    all_of=[condition_to_message(each) for each in all_of]
                )
            )
        case _:
            assert_never(constraint)


def constraint_from_message(message: study_pb2.ParameterConstraint) -> Constraint:
    """Read a constraint between parameters.

    Raises:
        SpecError: A part is missing.
    """
    violations = Violations(SpecError)
    match message.WhichOneof("kind"):
        case "linear":
            linear = message.linear
            violations.require(linear.coefficients, "linear.coefficients", "must not be empty")
            violations.check()
            return Linear(
                {name: linear.coefficients[name] for name in sorted(linear.coefficients)},
                linear.lower if linear.HasField("lower") else float("-inf"),
                linear.upper if linear.HasField("upper") else float("inf"),
            )
        case "simplex":
            simplex = message.simplex
            violations.require(simplex.ids, "simplex.ids", "must name parameters")
            violations.check()
            return Simplex(tuple(simplex.ids), simplex.total)
        case "exclude":
            all_of = message.exclude.all_of
            violations.require(all_of, "exclude.all_of", "must have a condition")
            conditions = violations.each("exclude.all_of", condition_from_message, all_of)
            violations.check()
            return Exclude(conditions)
        case None:
            raise SpecError.of("", "must be one of linear, simplex, exclude")
