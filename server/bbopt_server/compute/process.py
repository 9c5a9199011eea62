"""The compute process: one thread that answers requests from a socket until it closes.

Started by the front with one end of a socket pair; there is no other way to talk to it. The
first frame out says that the engine is loaded, or why it cannot be. When the front goes,
by whatever death, the socket closes and this process leaves at once, busy or not.
"""

import argparse
import ctypes
import gc
import logging
import os
import select
import signal
import socket
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

from google.protobuf.message import DecodeError

from bbopt.rpc.v1 import compute_pb2
from bbopt_server.compute.compute import IDLE_S
from bbopt_server.compute.desk import Desk
from bbopt_server.compute.failures import NOT_INSTALLED
from bbopt_server.compute.frames import FrameError, frame, receive_frame
from bbopt_server.compute.hot import Builder, HotStudies, Meter
from bbopt_server.crash_points import reach
from bbopt_server.telemetry.logs import configure_logs

EXIT_LOST_STEP = 65
EXIT_NOT_INSTALLED = 69
EXIT_SPOILED = 70

_ENGINE = ("botorch", "gpytorch", "linear_operator", "scipy", "torch")

_FULL_COLLECTION_EVERY = 1000
"""Collections of young objects; Python's own number is 10."""
_QUIET_S = 10.0
"""Without a request: time to tidy up."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Engine:
    """What loading the engine gives."""

    build: Builder
    n_bytes: Meter
    is_fatal: Callable[[Exception], bool] = lambda _: False


def main(arguments: Sequence[str], load: Callable[[str], Engine]) -> int:
    """Load the engine, say so, and answer requests until the socket closes.

    Args:
        arguments: Of the command line.
        load: Loads the engine for a device.

    Returns:
        The exit status.
    """
    options = _parser().parse_args(arguments)
    if options.core is not None:  # Before any other thread is there.
        os.sched_setaffinity(0, {options.core})
    configure_logs("info")
    logging.captureWarnings(True)
    # Whoever stops the front's process group or its control group means the front: it
    # decides when to close the socket.
    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, signal.SIG_IGN)
    channel = socket.socket(fileno=options.fd)
    _leave_with(channel)
    try:
        engine = load(options.device)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in _ENGINE:
            raise
        message = f"{error.name} is missing: pip install 'bbopt[server]'"
        channel.sendall(frame(_hello_failure(message).SerializeToString()))
        return EXIT_NOT_INSTALLED
    studies = HotStudies(
        engine.build,
        n_bytes=engine.n_bytes,
        max_studies=options.max_studies,
        max_bytes=options.max_bytes,
    )
    _collect_seldom()
    reach("compute.loaded")
    hello = compute_pb2.ComputeReply(done=True)
    channel.sendall(frame(hello.SerializeToString()))
    return serve(channel, Desk(studies, is_fatal=engine.is_fatal, idle_s=options.idle_seconds))


def _collect_seldom() -> None:
    """Spare asks the passes of the garbage collector over everything.

    They took up to 0.4 s of one ask with 1,000 studies, and found nothing: what studies leave
    behind is freed at once, or found by the passes over what is new.
    """
    gc.freeze()
    n_new, n_young, _ = gc.get_threshold()
    gc.set_threshold(n_new, n_young, _FULL_COLLECTION_EVERY)


def serve(channel: socket.socket, desk: Desk) -> int:
    """Answer requests until the other end closes; return the exit status."""
    while True:
        _tidy_until_spoken_to(channel, desk)
        try:
            message = receive_frame(channel)
            if message is None:
                return os.EX_OK
            request = compute_pb2.ComputeRequest.FromString(message)
        except (FrameError, DecodeError) as error:
            _log.error("not a request: %s", error)
            return EXIT_LOST_STEP
        try:
            reply = desk.answer(request)
        except Exception:  # The device is gone: a fresh process may get it back.
            _log.exception("this process is spoiled")
            return EXIT_SPOILED
        reach("compute.before_reply")
        channel.sendall(frame(reply.SerializeToString()))


def _tidy_until_spoken_to(channel: socket.socket, desk: Desk) -> None:
    """Wait for a request, and give memory back meanwhile, a little at a time."""
    waiting = select.poll()
    waiting.register(channel.fileno(), select.POLLIN)
    has_freed, timeout_s = True, _QUIET_S
    desk.tidy()  # Even if it is never quiet.
    while not waiting.poll(1e3 * timeout_s):
        if desk.tidy():
            has_freed, timeout_s = True, 0.0
            continue
        if has_freed:
            give_back_free_memory()
        has_freed, timeout_s = False, _QUIET_S


def give_back_free_memory() -> None:
    """Have the C library return to the system what fits and models left behind.

    It keeps what was freed, up to a hundred megabytes after a fit of a large study. Without
    such a call, as on other systems, nothing happens.
    """
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def _leave_with(channel: socket.socket) -> None:
    """End this process when the other end closes, even in the middle of a job."""

    def wait() -> None:
        hangup = select.poll()
        # Not POLLIN: data are the main thread's. A hangup is reported even if not asked for.
        hangup.register(channel.fileno(), getattr(select, "POLLRDHUP", 0))
        hangup.poll()
        os._exit(os.EX_OK)

    threading.Thread(target=wait, name="leave", daemon=True).start()


def _hello_failure(message: str) -> compute_pb2.ComputeReply:
    failure = compute_pb2.ComputeReply.Failure(reason=NOT_INSTALLED, message=message)
    return compute_pb2.ComputeReply(failure=failure)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=f"{os.path.basename(sys.executable)} -m bbopt_server.compute",
        description="Started by the server; of no use by hand.",
    )
    parser.add_argument("--fd", type=int, required=True)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--core", type=int)
    parser.add_argument("--max-studies", type=int, default=None)
    parser.add_argument("--max-bytes", type=int, default=1 << 30)
    parser.add_argument("--idle-seconds", type=float, default=IDLE_S)
    return parser
