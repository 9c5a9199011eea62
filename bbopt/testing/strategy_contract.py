"""The contract of every strategy, as checks that any test runner can call.

Each check takes settings and raises ``AssertionError`` when the strategy breaks the rule in its
name. A plug-in author runs them all::

    @pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
    def test_my_strategy(check):
        check(MySpec())
"""

from collections.abc import Callable, Sequence
from typing import Any, Final, TypeAlias

from bbopt.testing import (
    determinism_checks,
    promise_checks,
    result_checks,
    space_checks,
)

Check: TypeAlias = Callable[[Any], None]

CHECKS: Final[Sequence[Check]] = (
    *determinism_checks.CHECKS,
    *result_checks.CHECKS,
    *space_checks.CHECKS,
    *promise_checks.CHECKS,
)
