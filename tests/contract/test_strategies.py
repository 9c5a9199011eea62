"""Every registered strategy keeps the contract."""

import pytest

from bbopt.specs import NAMES, AshaSpec, GPSpec, Promotion
from bbopt.testing.strategy_contract import CHECKS, Check

SPECS = {name: spec() for name, spec in NAMES.items()}
# A short initial design, so that every check reaches the model.
SPECS["gp"] = GPSpec(n_initial=4)
SPECS["asha that runs on"] = AshaSpec(Promotion.CONTINUE)


@pytest.mark.parametrize("name", sorted(SPECS))
@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_a_strategy_keeps_its_contract(name: str, check: Check) -> None:
    check(SPECS[name])
