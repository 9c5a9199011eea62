"""kill -9 of the server and of compute under clients: what was acknowledged is there, once."""

import asyncio
import functools
import itertools
import random
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from bbopt.replay import replay
from bbopt.rpc.study import study_spec_from_message
from bbopt.rpc.v1 import study_pb2
from tests.e2e.served import Caller
from tests.faults import forgetful_server
from tests.faults.history import Exchange, Fault, Kind, find_faults, find_other_answers, kinds
from tests.faults.kept import Kept, read_file
from tests.faults.storm import (
    SERVER,
    Blow,
    Hasty,
    Library,
    Place,
    Slow,
    Storm,
    Stubs,
    Worker,
    attempt,
    rage,
)

STRATEGIES = ("gp", "random", "sobol")
KINDS: Sequence[type[Worker]] = (*[Library] * 2, *[Slow] * 2, *[Hasty] * 3, *[Stubs] * 9)
CREW = list(zip(KINDS, itertools.cycle(STRATEGIES), strict=False))
"""16 clients on three studies."""
N_KILLS = 25
FEW = (Blow.COMPUTE, Blow.FRONT, Blow.COMMIT)


pytestmark = pytest.mark.timeout(300)  # A busy machine takes half a minute to load torch.


def many(seed: int) -> list[Blow]:
    """Mix kills of both kinds; a death that surely costs answers comes last."""
    blows = [Blow.FRONT] * (N_KILLS - N_KILLS // 2) + [Blow.COMPUTE] * (N_KILLS // 2)
    random.Random(seed).shuffle(blows)  # noqa: S311
    return [*blows, Blow.COMMIT]


def read(db: str, studies: Sequence[str]) -> dict[str, Kept]:
    """Read what is in a file that nobody serves; log and rows must agree."""
    kept = {study: asyncio.run(read_file(db, study)) for study in studies}
    for each in kept.values():
        each.check()
    return kept


def repeat(
    db: str,
    history: Sequence[Exchange],
    *,
    program: Sequence[str] = SERVER,
    timeout_s: float = 60.0,
) -> list[Fault]:
    """Start the server once more and send calls again; return what was answered otherwise."""
    place = Place(db, program=program, n_compute=1)
    try:
        with Caller(place.address) as caller:
            return find_other_answers(
                history, functools.partial(attempt, caller, timeout_s=timeout_s)
            )
    finally:
        place.kill()


def revisions(kept: Mapping[str, Kept]) -> dict[str, int]:
    return {study: each.study.revision for study, each in kept.items()}


def check(db: str, storm: Storm) -> None:
    """Find nothing wrong with what a storm left, nor with what repeated calls are answered."""
    kept = read(db, storm.studies)
    assert find_faults(storm.history, kept) == []
    assert repeat(db, storm.history) == []
    assert revisions(read(db, storm.studies)) == revisions(kept)


def check_that_the_check_fails(db: str, storm: Storm) -> None:
    """Find what a server does that forgets its answers."""
    found = kinds(find_faults(storm.history, read(db, storm.studies)))
    assert found & {Kind.UNRECOGNISED, Kind.NOBODYS, Kind.DOUBLED}
    sample = random.Random(1).sample(storm.history, 16)  # noqa: S311
    others = repeat(db, sample, program=forgetful_server.PROGRAM, timeout_s=2.0)
    assert len(others) == sum(exchange.is_kept for exchange in sample)


def test_sixteen_clients_lose_and_double_nothing_when_processes_are_killed(
    tmp_path: Path,
) -> None:
    db = str(tmp_path / "s.db")
    storm = rage(db, CREW, FEW)
    assert storm.n_resent > 0
    check(db, storm)


def test_a_server_that_forgets_its_answers_fails_the_same_check(tmp_path: Path) -> None:
    db = str(tmp_path / "s.db")
    storm = rage(db, CREW, [Blow.COMMIT], program=forgetful_server.PROGRAM)
    check_that_the_check_fails(db, storm)


def test_the_log_of_a_killed_server_reproduces_the_models_suggestions(tmp_path: Path) -> None:
    db = str(tmp_path / "s.db")

    def is_over(history: Sequence[Exchange]) -> bool:
        handed_out = [trial for exchange in history for trial in exchange.trials]
        return sum(trial.provenance.generator == "gp" for trial in handed_out) >= 8

    blows = [Blow.COMPUTE, Blow.FRONT]
    storm = rage(db, [(Stubs, "gp")] * 2, blows, waits_for_compute=True, is_over=is_over)
    check(db, storm)
    kept = read(db, storm.studies)["gp"]
    spec = study_spec_from_message(study_pb2.StudySpec.FromString(kept.study.spec))
    assert replay(spec.problem, spec.strategy, spec.drawn_seed, kept.events) == []


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_sixteen_clients_lose_and_double_nothing_in_a_long_storm(tmp_path: Path) -> None:
    db = str(tmp_path / "s.db")
    storm = rage(db, CREW, many(1), pause_s=1.2, waits_for_compute=True, n_compute=2)
    assert storm.n_resent > 0
    assert "it worked for study" in storm.log, "compute was never killed at work"
    check(db, storm)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_server_that_forgets_its_answers_fails_the_check_of_a_long_storm(
    tmp_path: Path,
) -> None:
    db = str(tmp_path / "s.db")
    storm = rage(
        db,
        CREW,
        many(1),
        pause_s=1.2,
        waits_for_compute=True,
        n_compute=2,
        program=forgetful_server.PROGRAM,
    )
    check_that_the_check_fails(db, storm)
