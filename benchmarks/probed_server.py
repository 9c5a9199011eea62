"""The server, with a probe on its event loop that says how late the loop is.

Only for ``benchmarks.service``: the arguments are the server's own, after the file for the
figures. The probe sleeps a little, again and again, and notes by how much it wakes up late.
``SIGUSR1`` writes what it has noted since the last time, in seconds, as a JSON list::

    python -m benchmarks.probed_server lags.json --db x.db --listen 127.0.0.1:0
"""

import asyncio
import json
import os
import signal
import sys
import time
from pathlib import Path

from bbopt_server.app import serve
from bbopt_server.settings import Settings, parse
from bbopt_server.telemetry.logs import configure_logs

_PERIOD_S = 0.002


async def _serve_probed(settings: Settings, path: Path) -> None:
    lags: list[float] = []

    def write() -> None:
        part = path.with_suffix(".part")
        part.write_text(json.dumps(lags))
        lags.clear()
        part.rename(path)

    async def probe() -> None:
        while True:
            due = time.perf_counter() + _PERIOD_S
            await asyncio.sleep(_PERIOD_S)
            lags.append(time.perf_counter() - due)

    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, write)
    probing = asyncio.create_task(probe())
    try:
        await serve(settings)
    finally:
        probing.cancel()


if __name__ == "__main__":
    given = parse(sys.argv[2:], os.environ)
    configure_logs(given.log_level)
    asyncio.run(_serve_probed(given, Path(sys.argv[1])))
