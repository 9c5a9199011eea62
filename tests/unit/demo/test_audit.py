"""The demo's account of what was lost: it finds everything that could be."""

from dataclasses import replace
from pathlib import Path

import pytest

from bbopt_client.demo.audit import Acknowledgement, Audit, Events, acknowledgements, audit
from bbopt_client.demo.chaos import Strikes

STORED = {number: {"accuracy": number / 7} for number in (1, 2, 3, 4)}
ACKNOWLEDGED = [
    Acknowledgement(f"worker-{1 + number % 2}", number, {"accuracy": f"{number / 7:.6g}"})
    for number in STORED
]
STRIKES = Strikes("worker-2", trial=2, n_before=2, away_s=4.5)
EVENTS = Events({2: 1}, dict.fromkeys(STORED, 1))


def audited(**changes: object) -> Audit:
    given = {
        "acknowledged": ACKNOWLEDGED,
        "stored": STORED,
        "events": EVENTS,
        "strikes": STRIKES,
        "n_expected": 4,
    }
    return audit(**{**given, **changes})  # type: ignore[arg-type]


def test_a_store_with_everything_is_clean() -> None:
    found = audited()
    assert found.is_clean
    assert found.lines() == [
        "worker   worker-2 was killed while it was evaluating trial 2",
        "         trial 2 was requeued and finished by worker-1",
        "server   was killed when it had 2 results, and was away for 4.5 s",
        "         was killed once more at the end: what follows was read from its file",
        "results  4 acknowledged to the workers, by their own logs",
        "         4 of these in the store with the same values",
        "         4 in the store, of 4 asked for",
        "         0 duplicates",
        "verdict  nothing was lost",
    ]


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"stored": {1: STORED[1], 2: STORED[2], 4: STORED[4]}}, "MISSING: trial 3"),
        ({"stored": STORED | {3: {}}}, "ALTERED: trial 3"),
        ({"stored": STORED | {3: {"accuracy": 0.4286}}}, "ALTERED: trial 3"),
        ({"events": Events({2: 1}, {1: 1, 4: 2})}, "TWICE: trial 4"),
        (
            {"acknowledged": [*ACKNOWLEDGED, replace(ACKNOWLEDGED[0], worker="worker-9")]},
            "TWICE: trial 1",
        ),
        ({"acknowledged": [*ACKNOWLEDGED[:1], *ACKNOWLEDGED[2:]]}, "NOBODY finished trial 2"),
        ({"strikes": replace(STRIKES, worker="")}, "worker   NOT KILLED"),
        ({"strikes": replace(STRIKES, away_s=0.0)}, "server   NOT KILLED"),
        ({"n_expected": 5}, "4 in the store, of 5 asked for"),
    ],
    ids=[
        "a result gone",
        "a result without its values",
        "another value",
        "told twice",
        "two workers told it",
        "nobody told it",
        "no worker killed",
        "no server killed",
        "fewer than asked for",
    ],
)
def test_whatever_is_wrong_is_named(changes: dict[str, object], line: str) -> None:
    found = audited(**changes)
    assert not found.is_clean
    assert line in "\n".join(found.lines())
    assert found.lines()[-1].startswith("verdict  FAILED")


def test_only_what_the_server_acknowledged_counts(tmp_path: Path) -> None:
    (tmp_path / "tuned-worker-2.log").write_text(
        "trial 3 completed: accuracy=0.5, model_bytes=1.5e+06 (0.1 s)\n"
        "trial 4: the result waits on disk: no server\n"
        "trial 5 failed: exit code 1 (0.1 s)\n"
        "trial 6 completed: accuracy=0.5, model_by"
    )
    assert acknowledgements(tmp_path, "tuned") == [
        Acknowledgement("worker-2", 3, {"accuracy": "0.5", "model_bytes": "1.5e+06"})
    ]
