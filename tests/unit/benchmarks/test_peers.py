"""Peers live in environments of their own and are talked to in lines of JSON."""

import io
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from bbopt import Int, Problem
from bbopt.problems import branin
from benchmarks.peers import environments
from benchmarks.peers.conversation import answer_all
from benchmarks.peers.environments import Environment, environment_of, known_peers
from benchmarks.peers.install import install
from benchmarks.peers.process import PeerLostError, running
from tests.unit.benchmarks import fake_peer

ROOT = Path(__file__).parents[3]


def conversation(*requests: object) -> list[dict[str, Any]]:
    lines = "".join(json.dumps(each) + "\n" for each in requests)
    replies = io.StringIO()
    answer_all(io.StringIO(lines), replies, fake_peer.make, packages=["pytest"])
    return [json.loads(line) for line in replies.getvalue().splitlines()]


CREATE = {"create": {"parameters": [{"name": "x", "low": 0.0, "high": 1.0}], "seed": 0}}


def test_each_request_gets_one_reply(capsys: pytest.CaptureFixture[str]) -> None:
    attach = {"attach": [{"parameters": {"x": 0.5}, "value": 1.0}] * 2}
    created, attached, asked, told, again = conversation(
        CREATE, attach, {"ask": None}, {"tell": 0.5}, {"ask": None}
    )
    assert set(created["versions"]) == {"pytest"}
    assert attached == told == {}
    assert (asked["parameters"], again["parameters"]) == ({"x": 2.0}, {"x": 3.0})
    assert asked["wall_s"] >= 0.0
    assert asked["cpu_s"] >= 0.0
    assert capsys.readouterr().out == "chatter\n" * 2


@pytest.mark.parametrize("requests", [[{"ask": None}], [CREATE, {"predict": 1}]])
def test_what_makes_no_sense_is_refused(requests: Sequence[object]) -> None:
    with pytest.raises(ValueError, match="request"):
        conversation(*requests)


# Environments --------------------------------------------------------------------------------


@pytest.fixture
def pins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "pins"
    folder.mkdir()
    (folder / "fake.txt").write_text("fake==1\n")
    monkeypatch.setattr(environments, "PINS", folder)
    return folder / "fake.txt"


class Commands:
    """Notes commands instead of running them; makes the folder of an environment."""

    def __init__(self, *, fails_at: int = -1) -> None:
        self.ran: list[Sequence[str]] = []
        self._fails_at = fails_at

    def __call__(self, command: Sequence[str]) -> None:
        if len(self.ran) == self._fails_at:
            raise subprocess.CalledProcessError(1, command)
        self.ran.append(command)
        if "venv" in command:
            Path(command[-1]).mkdir(parents=True, exist_ok=True)


def test_an_environment_gets_what_is_pinned_and_is_then_left_alone(
    pins: Path, tmp_path: Path
) -> None:
    environment = environment_of("fake", folder=tmp_path / "peers")
    commands = Commands()
    assert install(environment, commands)
    assert [command[2] for command in commands.ran] == ["venv", "pip", "pip"]
    assert str(pins) in commands.ran[1]
    assert environment.is_installed
    assert not install(environment, commands)
    assert len(commands.ran) == 3


def test_an_environment_is_made_anew_when_its_pins_change(pins: Path, tmp_path: Path) -> None:
    environment = environment_of("fake", folder=tmp_path / "peers")
    install(environment, Commands())
    pins.write_text("fake==2\n")
    assert not environment.is_installed
    assert install(environment, Commands())


@pytest.mark.usefixtures("pins")
def test_an_installation_that_broke_off_does_not_count(tmp_path: Path) -> None:
    environment = environment_of("fake", folder=tmp_path / "peers")
    with pytest.raises(subprocess.CalledProcessError):
        install(environment, Commands(fails_at=1))
    assert not environment.is_installed


def test_the_folder_of_the_environments_can_be_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BBOPT_PEERS", str(tmp_path))
    assert environment_of("ax").folder == tmp_path / "ax"
    monkeypatch.delenv("BBOPT_PEERS")
    assert environment_of("ax").folder == ROOT / ".peers" / "ax"


def test_every_peer_has_a_program_and_exact_versions() -> None:
    assert known_peers() == ["ax", "nevergrad", "optuna"]
    for name in known_peers():
        assert (ROOT / "benchmarks" / "peers" / f"{name}.py").exists()
        lines = environment_of(name).pins.read_text().splitlines()
        wanted = [line for line in lines if not line.startswith("#")]
        assert all("==" in line and "+" not in line for line in wanted)


# Processes -----------------------------------------------------------------------------------


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Environment:
    """Return an environment whose interpreter runs the fake, whatever it is told to run."""
    python = tmp_path / "fake" / "bin" / "python"
    python.parent.mkdir(parents=True)
    program = ROOT / "tests" / "unit" / "benchmarks" / "fake_peer.py"
    python.write_text(f'#!/bin/sh\nPYTHONPATH="{ROOT}" exec "{sys.executable}" "{program}"\n')
    python.chmod(0o700)
    monkeypatch.setattr(environments, "PINS", tmp_path)
    (tmp_path / "fake.txt").write_text("")
    found = environment_of("fake", folder=tmp_path)
    found.mark_installed()
    return found


def test_a_peer_answers_from_its_own_interpreter(environment: Environment) -> None:
    with running("fake", environment=environment) as peer:
        peer.create(branin().problem, seed=5)
        peer.attach([{"x": 0.0, "y": 0.0}], [1.0])
        assert set(peer.ask().parameters.values()) == {6.0}
        peer.tell(1.0)
        assert set(peer.ask().parameters.values()) == {7.0}
        assert set(peer.versions) == {"pytest"}


def test_a_peer_that_ends_is_noticed(environment: Environment) -> None:
    with running("fake", environment=environment) as peer:
        peer.create(branin().problem, seed=5)
        with pytest.raises(PeerLostError, match="status 3"):
            peer.tell(-1.0)


def test_a_peer_that_is_not_installed_is_named(tmp_path: Path) -> None:
    with (
        pytest.raises(FileNotFoundError, match="benchmarks/peers/install ax"),
        running("ax", environment=environment_of("ax", folder=tmp_path)),
    ):
        raise AssertionError("it was started")


def test_other_parameters_than_real_ones_are_refused(environment: Environment) -> None:
    problem = Problem.of([Int("depth", 1, 9)], objective="-loss")
    with (
        running("fake", environment=environment) as peer,
        pytest.raises(ValueError, match="real parameters"),
    ):
        peer.create(problem, seed=0)
