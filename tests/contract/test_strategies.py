"""Every registered strategy keeps the contract."""

import pytest

from bbopt.specs import NAMES
from bbopt.testing.strategy_contract import CHECKS, Check


@pytest.mark.parametrize("name", sorted(NAMES))
@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_a_strategy_keeps_its_contract(name: str, check: Check) -> None:
    check(NAMES[name]())
