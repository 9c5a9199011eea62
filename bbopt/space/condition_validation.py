"""Everything that can be wrong with conditions, and the order in which they are decided.

A parameter that is itself faulty is ``None`` here: nothing is said about conditions on it.
"""

from collections.abc import Mapping, Sequence
from typing import assert_never

from bbopt.errors import Violation
from bbopt.space.conditions import AllOf, Between, Condition, Equals, parents
from bbopt.space.parameters import Fixed, Float, Int, Ordinal, Parameter
from bbopt.space.values import canonical_value, is_filled, is_known, is_real, value_fault

MAX_DEPTH = 16
"""Of a condition's tree, and of a chain of parameters that depend on each other."""
MAX_NODES = 1000
"""Of a condition's tree."""


def condition_of(parameter: Parameter) -> Condition | None:
    """Return a parameter's condition, if it has one."""
    return None if isinstance(parameter, Fixed) else parameter.active_if


def condition_violations(
    condition: Condition, parameters: Mapping[str, Parameter | None], path: str
) -> list[Violation]:
    """List what is wrong with one condition's tree."""
    violations: list[Violation] = []
    pending: list[tuple[Condition, str, int]] = [(condition, path, 1)]
    n_nodes = 0
    while pending:  # A loop: a tree that is too deep must not exhaust the stack.
        node, where, depth = pending.pop()
        n_nodes += 1
        if depth > MAX_DEPTH or n_nodes > MAX_NODES:
            limit = f"at most {MAX_DEPTH} levels and {MAX_NODES} tests"
            return [Violation(path, f"is too deep or too large: {limit}")]
        match node:
            case AllOf(conditions=children):
                if not is_filled(children):
                    message = "must have at least one condition"
                    violations.append(Violation(f"{where}.conditions", message))
                    continue
                pending += [
                    (child, f"{where}.conditions[{index}]", depth + 1)
                    for index, child in enumerate(children)
                ]
            case Equals():
                violations += _equals_violations(node, parameters, where)
            case Between():
                violations += _between_violations(node, parameters, where)
            case _:
                kind = type(node).__name__
                message = f"must be Equals, Between or AllOf, got {kind}"
                violations.append(Violation(where, message))
    return violations


def dependency_violations(parameters: Sequence[Parameter]) -> list[Violation]:
    """Find cycles and chains that are too long, given conditions that are right by
    themselves.
    """
    order, rest = activation_order(parameters)
    if rest:
        names = ", ".join(rest)
        return [
            Violation(
                f"parameters[{rest[0]}].active_if",
                f"the conditions of {names} depend on each other in a circle",
            )
        ]
    by_name = {parameter.name: parameter for parameter in parameters}
    depth: dict[str, int] = {}
    for name in order:
        condition = condition_of(by_name[name])
        above = () if condition is None else parents(condition)
        depth[name] = 1 + max((depth[parent] for parent in above), default=0)
    return [
        Violation(f"parameters[{name}].active_if", f"more than {MAX_DEPTH} levels of parents")
        for name, level in depth.items()
        if level == MAX_DEPTH + 1
    ]


def activation_order(parameters: Sequence[Parameter]) -> tuple[list[str], list[str]]:
    """Order names so that parents come before the parameters that depend on them.

    Returns:
        The order, and the names that are on a circle or below one (empty in a valid space).
    """
    waiting: dict[str, set[str]] = {}
    children: dict[str, list[str]] = {}
    for parameter in parameters:
        condition = condition_of(parameter)
        above = set() if condition is None else set(parents(condition))
        waiting[parameter.name] = above
        for parent in above:
            children.setdefault(parent, []).append(parameter.name)
    order = [name for name, above in waiting.items() if not above]
    for name in order:  # Grows while it is walked.
        for child in children.get(name, ()):
            waiting[child].discard(name)
            if not waiting[child]:
                order.append(child)
    done = set(order)
    return order, [name for name in waiting if name not in done]


def _equals_violations(
    node: Equals, parameters: Mapping[str, Parameter | None], where: str
) -> list[Violation]:
    if not is_known(node.parent, parameters):
        return [Violation(f"{where}.parent", f"there is no parameter {node.parent!r}")]
    parent = parameters[node.parent]
    if parent is None:
        return []
    if not is_filled(node.values):
        return [Violation(f"{where}.values", "must have at least one value")]
    violations = []
    for index, value in enumerate(node.values):
        fault = None if isinstance(parent, Fixed) else value_fault(parent, value)
        if fault is None and canonical_value(parent, value) != value:
            fault = f"must be written {canonical_value(parent, value)!r}, got {value!r}"
        if fault is not None:
            message = f"is no value of {node.parent!r}: {fault}"
            violations.append(Violation(f"{where}.values[{index}]", message))
    return violations


def _between_violations(
    node: Between, parameters: Mapping[str, Parameter | None], where: str
) -> list[Violation]:
    if not is_known(node.parent, parameters):
        return [Violation(f"{where}.parent", f"there is no parameter {node.parent!r}")]
    parent = parameters[node.parent]
    if parent is None:
        return []
    if not isinstance(parent, Float | Int | Ordinal):
        return [Violation(f"{where}.parent", f"{node.parent!r} has no numeric range")]
    violations = [
        Violation(f"{where}.{field}", f"must be a finite number, got {bound!r}")
        for field, bound in (("low", node.low), ("high", node.high))
        if not is_real(bound)
    ]
    if violations:
        return violations
    low, high = _range_of(parent)
    if node.low > node.high:
        return [Violation(f"{where}.low", f"low {node.low} is above high {node.high}")]
    if node.high < low or high < node.low:
        message = f"never true: {node.parent!r} is in [{low}, {high}]"
        return [Violation(where, message)]
    return []


def _range_of(parameter: Float | Int | Ordinal) -> tuple[float, float]:
    match parameter:
        case Float(low=low, high=high) | Int(low=low, high=high):
            return low, high
        case Ordinal(values=values):
            return values[0], values[-1]
        case _:
            assert_never(parameter)
