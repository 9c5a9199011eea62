from collections.abc import Iterator
from pathlib import Path

import pytest

from bbopt_client import Client, ClientOptions, Float, Study
from tests.unit.client.fake_server import FakeServer, FakeService, serving

FAST = ClientOptions(
    deadline_s=5.0,
    tell_deadline_s=5.0,
    attempt_timeout_s=2.0,
    ask_timeout_s=2.0,
    first_contact_s=2.0,
    initial_backoff_s=0.001,
    max_backoff_s=0.01,
    close_timeout_s=2.0,
)


@pytest.fixture
def fake() -> Iterator[FakeServer]:
    with serving() as server:
        yield server


@pytest.fixture
def service(fake: FakeServer) -> FakeService:
    return fake.service


@pytest.fixture
def client(fake: FakeServer, tmp_path: Path) -> Iterator[Client]:
    with Client(fake.address, worker="w", outbox=tmp_path / "outbox", options=FAST) as opened:
        yield opened


@pytest.fixture
def study(client: Client) -> Study:
    return client.create_study("s", space=[Float("x", 0, 1)], objective="-loss")
