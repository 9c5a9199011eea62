"""What a machine needs that only asks and tells: no torch, no scipy, a fraction of a second."""

import json
import os
import signal
import subprocess
import sys
import time
import venv
from pathlib import Path

import pytest

from bbopt_client import Client

_HEAVY = ("torch", "scipy", "sklearn", "botorch", "gpytorch", "pandas", "ax")
_IMPORT = f"""
import json, sys, time
start = time.process_time()
from bbopt_client import *
elapsed = time.process_time() - start
print(json.dumps([elapsed, [name for name in {_HEAVY} if name in sys.modules]]))
"""
_ROOT = Path(__file__).parents[2]
_LIMIT_S = 0.5


def measure(program: str) -> tuple[float, list[str]]:
    found = subprocess.run(  # noqa: S603
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    elapsed_s, heavy = json.loads(found.stdout)
    return elapsed_s, heavy


def test_every_name_of_the_client_is_imported_without_the_engine() -> None:
    assert measure(_IMPORT)[1] == []


def test_the_client_is_imported_in_a_fraction_of_a_second() -> None:
    # Time on a core, of one of a few: the machine may be busy, the import may not.
    assert any(measure(_IMPORT)[0] < _LIMIT_S for _ in range(5))


def test_every_module_of_the_client_stays_light() -> None:
    modules = [
        f"bbopt_client.{path.stem}"
        for path in (_ROOT / "client" / "bbopt_client").glob("*.py")
        if path.stem != "__init__"
    ]
    program = "\n".join(
        [
            "import importlib, json, sys",
            f"for name in {modules}: importlib.import_module(name)",
            f"print(json.dumps([0, [name for name in {_HEAVY} if name in sys.modules]]))",
        ]
    )

    assert len(modules) > 10
    assert measure(program)[1] == []


# A real installation ------------------------------------------------------------------------

_DRIVE = """
import importlib.util, sys
assert importlib.util.find_spec("torch") is None
assert importlib.util.find_spec("scipy") is None
from bbopt_client import Client, Float
with Client(sys.argv[1], outbox=sys.argv[2]) as client:
    study = client.create_study("light", space=[Float("x", 0, 1)], objective="-loss", trials=8)
    best = study.optimize(lambda trial: (trial["x"] - 0.3) ** 2, trials=5)
    print(best.number, len(study.trials()))
"""
_OBJECTIVE = """
import json, os
x = float(os.environ["BBOPT_PARAM_X"])
with open(os.environ["BBOPT_RESULT_FILE"], "w") as file:
    json.dump({"loss": (x - 0.3) ** 2}, file)
"""


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_base_install_drives_a_server_and_runs_a_worker(tmp_path: Path) -> None:
    light = tmp_path / "venv"
    venv.create(light, with_pip=True)
    python = light / "bin" / "python"
    environment = {
        name: value for name, value in os.environ.items() if name not in ("PYTHONPATH",)
    }
    subprocess.run(  # noqa: S603
        [python, "-m", "pip", "install", "--quiet", str(_ROOT)], check=True, cwd=tmp_path
    )
    with Client.local(tmp_path / "s.db", outbox=False) as client:
        address = client.address
        driven = subprocess.run(  # noqa: S603
            [python, "-c", _DRIVE, address, str(tmp_path / "outbox")],
            capture_output=True,
            text=True,
            check=True,
            cwd=tmp_path,
            env=environment,
        )
        assert int(driven.stdout.split()[1]) == 5

        script = tmp_path / "objective.py"
        script.write_text(_OBJECTIVE)
        command = [str(light / "bin" / "bbopt"), "run", "light", "--", str(python), str(script)]
        subprocess.run(  # noqa: S603
            command, check=True, cwd=tmp_path, env=environment | {"BBOPT_SERVER": address}
        )
        trials = client.study("light").trials()
        assert len(trials) == 8
        assert all(trial.metrics for trial in trials)
        served_by = json.loads((tmp_path / "s.db.lock").read_text())["pid"]
    os.kill(served_by, signal.SIGTERM)
    while (tmp_path / "s.db.lock").exists():
        time.sleep(0.02)
