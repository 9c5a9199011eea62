"""What a strategy of another package answers, checked before it gets into a log.

Our own strategies are held to the same rules by their tests.
"""

from dataclasses import replace

from bbopt.errors import InternalError
from bbopt.space import Space
from bbopt.trial import StrategyState, Suggestion


def checked_answer(
    space: Space, suggestions: object, state: object, n: int
) -> list[Suggestion]:
    """Return suggestions whose points are canonical points of the space.

    Args:
        space: Of the problem.
        suggestions: What ``ask`` returned.
        state: What ``state`` returned after it.
        n: How many points were asked for.

    Raises:
        InternalError: There are more of them, one is no suggestion or none of the space's
            points, or the state is none.
    """
    if not isinstance(state, StrategyState):
        raise InternalError(f"the strategy's state is no StrategyState but {_kind(state)}")
    if not isinstance(suggestions, list | tuple):
        raise InternalError(f"the strategy suggests no list but {_kind(suggestions)}")
    if len(suggestions) > n:
        raise InternalError(f"the strategy suggests {len(suggestions)} points of {n} asked for")
    return [_checked(space, each) for each in suggestions]


def _checked(space: Space, given: object) -> Suggestion:
    if not isinstance(given, Suggestion):
        raise InternalError(f"the strategy suggests no Suggestion but {_kind(given)}")
    violations = space.check(given.parameters)
    if violations:
        faults = "; ".join(str(each) for each in violations)
        raise InternalError(f"the strategy suggests what is no point of the space: {faults}")
    return replace(given, parameters=space.canonical(given.parameters))


def _kind(given: object) -> str:
    return type(given).__name__
