"""Which strategy ``auto`` chooses, and how settings find their builder."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest

from bbopt import Float, Optimizer, Problem, Space
from bbopt.errors import DataLossError, InternalError, SpecError
from bbopt.specs import CAPABILITIES, NAMES, AutoSpec, SobolSpec
from bbopt.strategies import BUILDERS, Plugin, StrategyContext, registry, spec_of
from bbopt.strategies.design import SobolSearch
from bbopt.trial import StrategyState, Suggestion


def box(n: int, budget: int | None = None) -> Problem:
    return Problem.of(
        Space(tuple(Float(f"x{i}", 0.0, 1.0) for i in range(n))), "y", budget=budget
    )


class TestAuto:
    @pytest.mark.parametrize(
        ("problem", "name", "reason"),
        [
            (box(3), "gp", "3 searched parameters"),
            (box(301), "sobol", "a model learns up to 300"),
            (box(3, budget=3), "sobol", "budget of 3"),
        ],
    )
    def test_the_choice_depends_on_the_problem_and_is_explained(
        self, problem: Problem, name: str, reason: str
    ) -> None:
        trial = Optimizer(problem).ask()[0]
        assert f"auto chose {name}: " in trial.provenance.reason
        assert reason in trial.provenance.reason

    def test_a_study_keeps_the_strategy_with_which_it_began(self) -> None:
        study = Optimizer(box(3), "auto", seed=2)
        state = study.suggest(1).state
        assert state.scalars["chosen"] == "gp"
        other = StrategyState("auto", 1, {"chosen": "sobol", "counter": 5, "n_told": 0}, {})
        study.fold([None])
        study._committed, study._must_rebuild = other, True
        reason = study.suggest(1).suggestions[0].provenance.reason
        assert reason.startswith("auto chose sobol")


class TestRegistry:
    def test_every_named_strategy_has_a_builder_and_capabilities(self) -> None:
        assert set(BUILDERS) == set(NAMES.values()) == set(CAPABILITIES)
        for spec, builder in BUILDERS.items():
            assert builder.capabilities is CAPABILITIES[spec]  # type: ignore[attr-defined]

    def test_nothing_means_auto(self) -> None:
        assert spec_of(None) == AutoSpec()
        assert spec_of("sobol") == SobolSpec()

    def test_a_state_of_another_strategy_is_refused(self) -> None:
        study = Optimizer(box(2), "sobol")
        random = Optimizer(box(2), "random").suggest(1).state
        study._committed, study._must_rebuild = random, True
        with pytest.raises(DataLossError, match="random"):
            study.suggest(1)

    def test_a_state_of_a_newer_version_is_refused(self) -> None:
        study = Optimizer(box(2), "sobol")
        study._committed = StrategyState("sobol", 99, {"counter": 0, "n_told": 0}, {})
        study._must_rebuild = True
        with pytest.raises(DataLossError, match="layout 99"):
            study.suggest(1)


@dataclass(frozen=True, slots=True)
class CornerSpec:
    """Settings of a strategy from another package."""


def build_corner(
    context: StrategyContext, spec: CornerSpec, state: StrategyState | None
) -> SobolSearch:
    assert isinstance(spec, CornerSpec)
    return SobolSearch(context, SobolSpec(), state)


@pytest.fixture
def installed_plugin(monkeypatch: pytest.MonkeyPatch) -> None:
    plugin = Plugin("corner", CornerSpec, CAPABILITIES[SobolSpec], build_corner)

    @dataclass
    class Point:
        name: str = "corner"

        def load(self) -> Plugin:
            return plugin

    monkeypatch.setattr(registry, "entry_points", lambda **_: [Point()])


@pytest.mark.usefixtures("installed_plugin")
class TestPlugins:
    def test_a_strategy_of_another_package_works_by_name_and_by_settings(self) -> None:
        by_name = Optimizer(box(2), "corner", seed=1).ask()
        assert by_name == Optimizer(box(2), CornerSpec(), seed=1).ask()

    def test_an_unknown_name_lists_it(self) -> None:
        with pytest.raises(SpecError, match="corner"):
            spec_of("edge")

    def test_a_package_that_cannot_be_loaded_does_not_cost_the_others(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        @dataclass
        class Broken:
            name: str = "anneal"

            def load(self) -> Plugin:
                raise ImportError("no module named annealing")

        offered = vars(registry)["entry_points"]()
        points = [*offered, Broken()]
        monkeypatch.setattr(registry, "entry_points", lambda **_: points)

        with pytest.warns(RuntimeWarning, match="'anneal' cannot be loaded: ImportError"):
            assert spec_of("corner") == CornerSpec()


def moved(suggestion: Suggestion) -> Suggestion:
    return replace(suggestion, parameters={"x0": 7.0, "x1": 0.5})


@pytest.mark.usefixtures("installed_plugin")
class TestAnswersOfPlugins:
    """What a strategy of another package answers is checked before it gets into the log."""

    @pytest.mark.parametrize(
        ("spoil", "fault"),
        [
            (lambda _: None, "no list but NoneType"),
            (lambda found: [each.parameters for each in found], "no Suggestion but"),
            (lambda found: [*found, *found], "2 points of 1"),
            (lambda found: [moved(each) for each in found], r"x0\]: must be in \[0.0, 1.0\]"),
        ],
    )
    def test_a_wrong_answer_is_refused_and_changes_nothing(
        self,
        monkeypatch: pytest.MonkeyPatch,
        spoil: Callable[[list[Suggestion]], object],
        fault: str,
    ) -> None:
        optimizer = Optimizer(box(2), "corner", seed=1)
        ask = SobolSearch.ask
        with monkeypatch.context() as patched:
            patched.setattr(
                SobolSearch, "ask", lambda *given, **more: spoil(ask(*given, **more))
            )
            with pytest.raises(InternalError, match=fault):
                optimizer.ask()

        assert optimizer.revision == 0
        assert optimizer.ask() == Optimizer(box(2), "corner", seed=1).ask()
