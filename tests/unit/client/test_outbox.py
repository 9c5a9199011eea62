import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import bbopt_client.outbox
from bbopt.errors import NotFoundError
from bbopt.rpc.v1.optimization_service_pb2 import Tell, TellTrialsRequest
from bbopt_client.outbox import Outbox, SpooledTell, spooled

SERVER = "127.0.0.1:50151"


def entry(number: int, server: str = SERVER) -> SpooledTell:
    request = TellTrialsRequest(
        parent="projects/default/studies/s",
        tells=[Tell(trial=str(number))],
        request_id=f"request-{number}",
    )
    return spooled(request, server=server)


def spools(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("*.jsonl") if path.name != "refused.jsonl")


def test_an_entry_is_readable_on_disk_when_append_returns(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path, SERVER)

    outbox.append(entry(1))

    (path,) = spools(tmp_path)
    record = json.loads(path.read_text())
    assert SpooledTell(**record).request().tells[0].trial == "1"
    assert path.stat().st_mode & 0o077 == 0
    outbox.close()


def test_an_entry_is_synced_before_append_returns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []
    outbox = Outbox(tmp_path, SERVER)
    monkeypatch.setattr(os, "fsync", synced.append)

    outbox.append(entry(1))

    assert len(synced) == 1
    outbox.close()


def test_a_settled_outbox_leaves_no_file_behind(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path, SERVER)
    outbox.append(entry(1))
    outbox.append(entry(2))

    outbox.settle("request-1")
    outbox.settle("request-2")
    outbox.close()

    assert spools(tmp_path) == []


def test_what_is_pending_at_close_is_adopted_by_the_next_client(tmp_path: Path) -> None:
    first = Outbox(tmp_path, SERVER)
    for number in (1, 2, 3):
        first.append(entry(number))
    first.settle("request-2")
    first.close()

    second = Outbox(tmp_path, SERVER)

    assert second.adopt() == 2
    assert [each.request_id for each in second.pending()] == ["request-1", "request-3"]
    assert second.unattended() == second.pending()
    assert len(spools(tmp_path)) == 1
    second.close()


def test_a_living_client_keeps_its_own_entries(tmp_path: Path) -> None:
    alive, other = Outbox(tmp_path, SERVER), Outbox(tmp_path, SERVER)
    alive.append(entry(1))

    assert other.adopt() == 0

    assert [each.request_id for each in alive.pending()] == ["request-1"]
    alive.close()
    other.close()


def test_the_entries_of_another_server_are_left_alone(tmp_path: Path) -> None:
    first = Outbox(tmp_path, "other:1")
    first.append(entry(1, server="other:1"))
    first.close()

    second = Outbox(tmp_path, SERVER)

    assert second.adopt() == 0
    assert len(spools(tmp_path)) == 1
    second.close()


@pytest.mark.parametrize("n_cut", [1, 2, 40, 120])
def test_a_torn_last_line_costs_only_itself(tmp_path: Path, n_cut: int) -> None:
    first = Outbox(tmp_path, SERVER)
    first.append(entry(1))
    first.append(entry(2))
    first.close()
    (path,) = spools(tmp_path)
    path.write_bytes(path.read_bytes()[:-n_cut])

    second = Outbox(tmp_path, SERVER)
    second.adopt()

    found = [each.request_id for each in second.pending()]
    assert found == (["request-1", "request-2"] if n_cut == 1 else ["request-1"])
    second.close()


@pytest.mark.parametrize(
    "garbage",
    [b"\xff\xfe\n", b"[]\n", b"{}\n", b'{"done": 3}\n', b'{"request_id": 1}\n', b"\n"],
)
def test_garbage_between_entries_is_skipped(tmp_path: Path, garbage: bytes) -> None:
    first = Outbox(tmp_path, SERVER)
    first.append(entry(1))
    first.close()
    (path,) = spools(tmp_path)
    path.write_bytes(garbage + path.read_bytes() + garbage)

    second = Outbox(tmp_path, SERVER)

    assert second.adopt() == 1
    second.close()


def test_a_write_that_fails_halfway_leaves_no_half_entry(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outbox = Outbox(tmp_path, SERVER)
    outbox.append(entry(1))
    (path,) = spools(tmp_path)
    before = path.read_bytes()
    write = os.write
    with monkeypatch.context() as patched:
        patched.setattr(os, "write", lambda fd, data: write(fd, data[: len(data) // 2]))
        with pytest.raises(OSError, match="disk full"):
            outbox.append(entry(2))

    assert path.read_bytes() == before
    outbox.append(entry(3))
    outbox.close()
    second = Outbox(tmp_path, SERVER)
    second.adopt()
    assert [each.request_id for each in second.pending()] == ["request-1", "request-3"]
    second.close()


def test_a_refused_entry_is_kept_apart_with_the_reason(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path, SERVER)
    outbox.append(entry(1))

    outbox.refuse(entry(1), NotFoundError("the study is gone"), ["1"])

    assert outbox.pending() == ()
    record = json.loads(outbox.refused_path.read_text())
    assert (record["reason"], record["message"]) == ("NOT_FOUND", "the study is gone")
    assert record["trials"] == ["1"]
    assert record["body"] == entry(1).body
    outbox.close()


def test_a_spool_that_outgrows_its_limit_is_begun_anew_with_what_is_pending(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bbopt_client.outbox, "_MAX_FILE_BYTES", 2_000)
    outbox = Outbox(tmp_path, SERVER)
    outbox.append(entry(0))
    for number in range(1, 50):
        outbox.append(entry(number))
        outbox.settle(f"request-{number}")

    (path,) = spools(tmp_path)
    assert path.stat().st_size < 3_000
    outbox.close()
    second = Outbox(tmp_path, SERVER)
    second.adopt()
    assert [each.request_id for each in second.pending()] == ["request-0"]
    second.close()


def test_an_entry_that_is_being_sent_is_not_sent_by_others(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path, SERVER)
    outbox.append(entry(1))
    assert outbox.unattended() == ()

    outbox.release("request-1")

    assert [each.request_id for each in outbox.unattended()] == ["request-1"]
    outbox.close()


_ADOPT = """
import sys
from pathlib import Path
from bbopt_client.outbox import Outbox
outbox = Outbox(Path(sys.argv[1]), sys.argv[2])
sys.stdin.readline()
outbox.adopt()
print(" ".join(entry.request_id for entry in outbox.pending()), flush=True)
sys.stdin.readline()
"""


def test_every_orphan_is_adopted_by_exactly_one_of_several_processes(tmp_path: Path) -> None:
    for number in range(1, 21):
        orphan = Outbox(tmp_path, SERVER)
        orphan.append(entry(number))
        orphan.close()
    processes = [
        subprocess.Popen(  # noqa: S603
            [sys.executable, "-c", _ADOPT, str(tmp_path), SERVER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(3)
    ]
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    adopted: list[str] = []
    for process in processes:
        assert process.stdout is not None
        adopted += process.stdout.readline().split()
    for process in processes:
        process.communicate("\n", timeout=10)

    assert sorted(adopted) == sorted(f"request-{number}" for number in range(1, 21))
