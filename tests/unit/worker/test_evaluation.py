"""One trial's command with real child processes: hygiene, orders, endings."""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from bbopt.rpc.trial import outcome_from_message, outcome_to_message
from bbopt.trial import Completed, Failed, Infeasible, Stopped, Value
from bbopt_client.worker.command import CommandTemplate
from bbopt_client.worker.ending import Drop, Ending, Order, Release
from bbopt_client.worker.evaluation import Command, Evaluation, Limits, Shutdown
from bbopt_client.worker.reporting import Reporter
from bbopt_client.worker.scraping import parse_metrics_option
from bbopt_client.worker.workspace import Layout, Workspace
from tests.waiting import is_running, wait_until

NAMES = frozenset({"loss"})
QUICK = Limits(grace_s=0.3, notice_s=0.1)


class Trial:
    """One evaluation and what it reported, with orders that a test can give."""

    def __init__(
        self,
        folder: Path,
        *argv: str,
        limits: Limits = QUICK,
        parameters: Mapping[str, str] | None = None,
    ) -> None:
        self.reports: list[tuple[int, Mapping[str, Value]]] = []
        self.order: tuple[Order, str] | None = None
        self.shutdown = Shutdown()
        self.stops_at_step: int | None = None
        chosen = dict(parameters or {"x": "1"})
        workspace = Workspace.create(
            Layout(folder / "work"),
            study="s",
            trial=1,
            attempt=1,
            parameters=chosen,
            environment=os.environ,
        )
        run = workspace.invocation("s", 1, 1, chosen)
        template = CommandTemplate.parse(argv, names=chosen, environment=os.environ)
        environment = workspace.environment(run, server="h:1", inherited=os.environ)
        environment["OUT"] = str(folder)
        self.folder = folder
        self.workspace = workspace
        self.evaluation = Evaluation(
            command=Command(tuple(template.expand(run)), environment, workspace),
            metrics=parse_metrics_option("auto", NAMES),
            required=NAMES,
            limits=limits,
            shutdown=self.shutdown,
            directive=lambda: self.order,
            reporter=Reporter(self._report),
        )

    def _report(self, step: int, metrics: Mapping[str, Value]) -> bool:
        self.reports.append((step, metrics))
        return self.stops_at_step is not None and step >= self.stops_at_step

    def run(self) -> Ending:
        return self.evaluation.run()

    def run_until(self, is_ready: Callable[[], bool], act: Callable[[], None]) -> Ending:
        """Run, and act as soon as something is the case."""

        def watch() -> None:
            wait_until(is_ready)
            act()

        watcher = threading.Thread(target=watch)
        watcher.start()
        ending = self.run()
        watcher.join()
        return ending

    def preempt(self) -> None:
        self.shutdown.reason = "preempted by SIGTERM"
        self.shutdown.is_preempted = True


def shell(folder: Path, script: str, limits: Limits = QUICK) -> Trial:
    return Trial(folder, "sh", "-c", script, limits=limits)


def pid_in(path: Path) -> int:
    wait_until(lambda: path.exists() and path.read_text().strip() != "")
    return int(path.read_text())


def completed_loss(ending: Ending) -> float:
    assert isinstance(ending, Completed), ending
    return ending.measurement.metrics["loss"].value


def failed(ending: Ending) -> Failed:
    assert isinstance(ending, Failed), ending
    return ending


# What it measured


def test_a_marked_line_completes_the_trial(tmp_path: Path) -> None:
    assert completed_loss(shell(tmp_path, "echo '::bbopt::{\"loss\": 0.5}'").run()) == 0.5


def test_the_report_file_completes_the_trial_even_without_a_last_newline(
    tmp_path: Path,
) -> None:
    script = 'printf \'{"loss": 1}\\n{"loss": 0.5}\' > $BBOPT_REPORT_FILE'
    assert completed_loss(shell(tmp_path, script).run()) == 0.5


def test_a_half_written_last_line_is_ignored(tmp_path: Path) -> None:
    script = 'printf \'{"loss": 1}\\n{"loss": 0.\' > $BBOPT_REPORT_FILE'
    assert completed_loss(shell(tmp_path, script).run()) == 1.0


def test_the_result_file_has_the_last_word(tmp_path: Path) -> None:
    script = "echo loss=9; echo '{\"loss\": [0.5, 0.1]}' > $BBOPT_RESULT_FILE"
    ending = shell(tmp_path, script).run()
    assert isinstance(ending, Completed)
    assert ending.measurement.metrics == {"loss": Value(0.5, 0.1)}


def test_garbage_beside_the_result_does_no_harm(tmp_path: Path) -> None:
    script = (
        "head -c 300000 /dev/urandom; echo; echo '::bbopt::{{{'; echo '::bbopt::[1]';"
        "head -c 300000 /dev/urandom >&2; echo 'not json' > $BBOPT_REPORT_FILE;"
        "echo; echo '::bbopt::{\"loss\": 2}'"
    )
    assert completed_loss(shell(tmp_path, script).run()) == 2.0


MARK = "::bbopt::"
NOISE = {
    "megabytes without a newline": "print('x' * 3_000_000, end='\\n'); print('loss=0.5')",
    "binary without a newline at the end": (
        "print('loss=0.5', flush=True);out.write(bytes(range(256)).replace(b'\\n', b'') * 9000)"
    ),
    "bytes that are no UTF-8": "out.write(b'\\xff\\xfe loss=0.5 \\xc3\\n\\x80\\xbf\\n')",
    "bytes that are no UTF-8 behind a mark": (
        'out.write(b\'\\xff\\xfe::bbopt::{"loss": 0.5, "note": "\\xff"}\\n\')'
    ),
    "colours around name and value": r"print('\x1b[1;32mloss\x1b[0m=\x1b[31m0.5\x1b[0m')",
    "colours around a mark": r"""print('\x1b[2K\x1b[32m::bbopt::{"loss": 0.5}\x1b[0m')""",
    "the title of a terminal": r"print('\x1b]0;loss=9\x07loss=0.5')",
    "the same metric again and again": "[print(f'loss={v}') for v in (3, 3, 2, 0.5)]",
    "not a number before a number": "print('loss=nan'); print('loss=inf'); print('loss=0.5')",
    "steps that decrease": (
        "[print(MARK + json.dumps({'step': s, 'loss': s / 2})) for s in (9, 5, 5, 3, 1)]"
    ),
    "steps beyond any counter": (
        "[print(MARK + json.dumps({'step': s, 'loss': 9})) for s in (2**63, -1, 1.5, True)];"
        "print('loss=0.5')"
    ),
    "closed outputs": (
        "os.close(1); os.close(2); time.sleep(0.3);"
        "open(os.environ['BBOPT_RESULT_FILE'], 'w').write('{\"loss\": 0.5}'); os._exit(0)"
    ),
    "a pipe where the reports should be": (
        "os.mkfifo(os.environ['BBOPT_REPORT_FILE']);"
        "os.mkfifo(os.environ['BBOPT_RESULT_FILE']);"
        "print('loss=0.5')"
    ),
    "a directory where the result should be": (
        "os.mkdir(os.environ['BBOPT_RESULT_FILE']); print('loss=0.5')"
    ),
    "its own directory deleted": (
        "shutil.rmtree(pathlib.Path(os.environ['BBOPT_PARAMS_FILE']).parent);"
        "print('x' * 100_000); print('loss=0.5')"
    ),
}


@pytest.mark.parametrize("script", NOISE.values(), ids=NOISE.keys())
def test_a_program_that_writes_anything_at_all_is_understood(
    tmp_path: Path, script: str
) -> None:
    setup = (
        "import json, os, pathlib, shutil, sys, time\n"
        f"MARK, out = {MARK!r}, open(1, 'wb', buffering=0, closefd=False)\n"
    )
    limits = Limits(log_bytes=50_000, timeout_s=60)
    trial = Trial(tmp_path, sys.executable, "-c", setup + script, limits=limits)
    assert completed_loss(trial.run()) == 0.5


@pytest.mark.parametrize(
    ("report", "ending"),
    [
        ('{"infeasible": "\\ud800 \\u0007 \\u001b[31mred\\u001b[0m"}', Infeasible),
        ('{"loss": 1, "step": "\\ud800"}', Failed),
        ('{"\\ud800": 1}', Failed),
        ('{"loss": {"value": 1, "replicates": 1' + "0" * 30 + "}}", Failed),
        ('{"loss": [1, 1' + "0" * 400 + "]}", Infeasible),
        ('{"loss": ' + "[" * 900 + "]" * 900 + "}", Failed),
        ('{"loss": 1' + "0" * 5000 + "}", Failed),
    ],
    ids=[
        "half a character",
        "half a character as a step",
        "half a character as a name",
        "too many replicates",
        "a deviation beyond every float",
        "very deep",
        "a very long number",
    ],
)
def test_what_a_report_says_can_be_told_whatever_it_is(
    tmp_path: Path, report: str, ending: type
) -> None:
    (tmp_path / "report").write_text(report)
    told = shell(tmp_path, "cat $OUT/report > $BBOPT_REPORT_FILE").run()
    assert isinstance(told, Infeasible | Failed)
    assert isinstance(told, ending)
    assert outcome_from_message(outcome_to_message(told)) == told
    assert told.message.isprintable()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_costs_the_logs_but_not_the_trial(tmp_path: Path) -> None:
    script = (
        "trap 'exit 0' TERM; echo out; echo err >&2; echo '::bbopt::{\"loss\": 1}';"
        "touch $OUT/ready; while :; do sleep 0.02; done"
    )
    trial = shell(tmp_path, script, Limits(grace_s=30))
    for name in ("stdout.log", "stderr.log", "stop"):
        (trial.workspace.directory / name).symlink_to("/dev/full")
    ending = trial.run_until((tmp_path / "ready").exists, trial.preempt)
    assert completed_loss(ending) == 1.0
    assert "No space left" in trial.evaluation.log_problem


def test_reports_with_a_step_are_passed_on_in_order(tmp_path: Path) -> None:
    script = 'for i in 0 1 2; do echo "::bbopt::{\\"step\\": $i, \\"loss\\": $i}"; done'
    trial = shell(tmp_path, script)
    assert completed_loss(trial.run()) == 2.0
    assert trial.reports == [(step, {"loss": Value(float(step))}) for step in range(3)]


def test_the_point_is_to_blame_when_the_program_says_so(tmp_path: Path) -> None:
    script = 'echo \'{"infeasible": "mesh"}\' > $BBOPT_REPORT_FILE; exit 1'
    assert shell(tmp_path, script).run() == Infeasible("mesh")


def test_missing_metrics_fail_the_trial_and_are_named(tmp_path: Path) -> None:
    ending = failed(shell(tmp_path, "echo '::bbopt::{\"los\": 1}'; echo hint >&2").run())
    assert "reported no loss" in ending.message
    assert "hint" in ending.message
    assert not ending.retryable


def test_a_half_written_report_is_named_when_metrics_are_missing(tmp_path: Path) -> None:
    ending = failed(shell(tmp_path, "printf '::bbopt::{\"loss\": 1'").run())
    assert "not JSON" in ending.message


def test_nan_blames_the_point(tmp_path: Path) -> None:
    ending = shell(tmp_path, "echo '::bbopt::{\"loss\": NaN}'").run()
    assert ending == Infeasible("loss is nan")


def test_an_unreadable_result_file_fails_the_trial(tmp_path: Path) -> None:
    ending = failed(shell(tmp_path, "echo loss=1; echo '{' > $BBOPT_RESULT_FILE").run())
    assert "bad result file" in ending.message


# How it ended


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("echo loss=1; exit 3", "exit code 3"),
        ("exit 137", "exit code 137 (SIGKILL, perhaps out of memory)"),
        ("kill -9 $$", "killed by SIGKILL, perhaps out of memory"),
        ("kill -SEGV $$", "killed by SIGSEGV"),
    ],
)
def test_a_bad_exit_fails_the_trial_and_it_may_run_again(
    tmp_path: Path, script: str, message: str
) -> None:
    assert shell(tmp_path, script).run() == Failed(message, retryable=True)


def test_the_message_has_the_last_twenty_lines_of_standard_error(tmp_path: Path) -> None:
    ending = failed(shell(tmp_path, "seq 1 50 >&2; exit 1").run())
    assert ending.message.splitlines() == ["exit code 1", *map(str, range(31, 51))]


def test_a_program_that_does_not_exist_is_the_workers_fault(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Trial(tmp_path, "/no/such/program").run()


# Isolation


def test_a_value_is_one_argument_and_no_shell_sees_it(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.touch()
    value = f"a b; rm -rf {victim} $(rm {victim}) `rm {victim}`"
    script = "import sys; print(len(sys.argv)); print(sys.argv[1]); print('loss=1')"
    argv = (sys.executable, "-c", script, "${param:x}")
    trial = Trial(tmp_path, *argv, parameters={"x": value})
    assert completed_loss(trial.run()) == 1.0
    assert (trial.workspace.directory / "stdout.log").read_text() == f"2\n{value}\nloss=1\n"
    assert victim.exists()


def test_standard_input_is_empty(tmp_path: Path) -> None:
    assert completed_loss(shell(tmp_path, "cat; echo loss=1").run()) == 1.0


def test_the_program_leads_a_session_of_its_own(tmp_path: Path) -> None:
    trial = shell(tmp_path, "ps -o sid= -p $$ > $OUT/sid; echo $$ > $OUT/pid; echo loss=1")
    trial.run()
    assert (tmp_path / "sid").read_text().strip() == (tmp_path / "pid").read_text().strip()


def test_parameters_and_files_are_in_the_environment(tmp_path: Path) -> None:
    script = (
        "echo $BBOPT_SERVER $BBOPT_STUDY $BBOPT_TRIAL $BBOPT_ATTEMPT $BBOPT_PARAM_X;"
        "cat $BBOPT_PARAMS_FILE; echo loss=1"
    )
    trial = shell(tmp_path, script)
    trial.run()
    log = (trial.workspace.directory / "stdout.log").read_text()
    assert log.startswith('h:1 s 1 1 1\n{\n "x": "1"\n}\n')


def test_children_that_outlive_the_program_are_killed(tmp_path: Path) -> None:
    script = (
        "(trap '' TERM HUP; echo $$ > $OUT/x; exec sleep 60) & echo $! > $OUT/pid; echo loss=1"
    )
    assert completed_loss(shell(tmp_path, script).run()) == 1.0
    pid = pid_in(tmp_path / "pid")
    wait_until(lambda: not is_running(pid))


def test_a_daemon_that_holds_the_pipe_does_not_hold_up_the_trial(tmp_path: Path) -> None:
    script = "setsid sleep 20 & echo $! > $OUT/pid; echo loss=1"
    started = time.monotonic()
    try:
        assert completed_loss(shell(tmp_path, script).run()) == 1.0
        assert time.monotonic() - started < 5
    finally:
        os.kill(pid_in(tmp_path / "pid"), signal.SIGKILL)


def test_output_is_kept_within_its_limit(tmp_path: Path) -> None:
    limits = Limits(log_bytes=10_000)
    trial = shell(tmp_path, "seq 1 100000; echo loss=1", limits)
    assert completed_loss(trial.run()) == 1.0
    files = list(trial.workspace.directory.glob("stdout.log*"))
    assert sum(file.stat().st_size for file in files) <= 10_000
    assert (trial.workspace.directory / "stdout.log").read_text().endswith("loss=1\n")


# Orders


def test_a_program_that_obeys_has_its_grace(tmp_path: Path) -> None:
    script = (
        'trap \'echo "::bbopt::{\\"step\\": 9, \\"loss\\": 3}"; exit 0\' TERM;'
        "touch $OUT/ready; while :; do sleep 0.02; done"
    )
    trial = shell(tmp_path, script, Limits(grace_s=10, notice_s=0.05))

    def stop() -> None:
        trial.order = (Order.STOP_EARLY, "not promising")

    ending = trial.run_until((tmp_path / "ready").exists, stop)
    assert isinstance(ending, Stopped)
    assert ending.measurement.metrics == {"loss": Value(3.0)}
    assert trial.workspace.stop_file.read_text() == "not promising\n"


def test_a_program_that_watches_the_stop_file_is_not_signalled(tmp_path: Path) -> None:
    script = (
        "trap 'touch $OUT/signalled' TERM; echo '::bbopt::{\"step\": 1, \"loss\": 4}';"
        "while [ ! -e $BBOPT_STOP_FILE ]; do sleep 0.02; done; exit 0"
    )
    trial = shell(tmp_path, script, Limits(grace_s=10, notice_s=10))
    trial.stops_at_step = 1
    ending = trial.run()
    assert isinstance(ending, Stopped)
    assert ending.measurement.metrics == {"loss": Value(4.0)}
    assert not (tmp_path / "signalled").exists()


def test_a_trial_that_is_stopped_before_it_measured_anything_fails(tmp_path: Path) -> None:
    trial = shell(tmp_path, "touch $OUT/ready; sleep 30")

    def stop() -> None:
        trial.order = (Order.STOP_EARLY, "enough")

    ending = trial.run_until((tmp_path / "ready").exists, stop)
    assert ending == Failed("stopped early before anything was measured", retryable=False)


def test_a_group_that_ignores_sigterm_is_killed_after_the_grace(tmp_path: Path) -> None:
    script = (
        "trap '' TERM; (trap '' TERM; while :; do sleep 0.05; done) & echo $! > $OUT/child;"
        "echo $$ > $OUT/pid; while :; do sleep 0.05; done"
    )
    trial = shell(tmp_path, script)
    ending = trial.run_until(lambda: (tmp_path / "pid").exists(), trial.preempt)
    assert ending == Release("preempted by SIGTERM")
    for name in ("pid", "child"):
        pid = pid_in(tmp_path / name)
        wait_until(lambda pid=pid: not is_running(pid))  # type: ignore[misc]


def test_an_urgent_shutdown_does_not_wait_for_the_grace(tmp_path: Path) -> None:
    trial = shell(tmp_path, "trap '' TERM; touch $OUT/ready; sleep 60", Limits(grace_s=60))

    def kill() -> None:
        trial.preempt()
        trial.shutdown.is_urgent = True

    started = time.monotonic()
    ending = trial.run_until((tmp_path / "ready").exists, kill)
    assert isinstance(ending, Release)
    assert time.monotonic() - started < 10


def test_a_preempted_trial_fails_where_that_is_asked_for(tmp_path: Path) -> None:
    limits = Limits(grace_s=0.3, releases_on_preempt=False)
    trial = shell(tmp_path, "touch $OUT/ready; sleep 30", limits)
    ending = trial.run_until((tmp_path / "ready").exists, trial.preempt)
    assert ending == Failed("preempted by SIGTERM", retryable=True)


def test_a_result_that_was_there_when_the_order_came_is_kept(tmp_path: Path) -> None:
    script = (
        "trap 'exit 0' TERM; echo '{\"loss\": 5}' > $BBOPT_RESULT_FILE; touch $OUT/ready;"
        "while :; do sleep 0.02; done"
    )
    trial = shell(tmp_path, script, Limits(grace_s=10))
    ending = trial.run_until((tmp_path / "ready").exists, trial.preempt)
    # Only values without a step count: a step is not a result.
    assert completed_loss(ending) == 5.0


@pytest.mark.parametrize("order", ["timeout", "preemption"])
def test_a_program_that_hangs_after_its_result_has_given_it(tmp_path: Path, order: str) -> None:
    script = "echo '{\"loss\": 5}' > $BBOPT_RESULT_FILE; touch $OUT/ready; sleep 60"
    timeout_s = 1.5 if order == "timeout" else None
    trial = shell(tmp_path, script, Limits(timeout_s=timeout_s, grace_s=0.3))

    def act() -> None:
        if order == "preemption":
            trial.preempt()

    ending = trial.run_until((tmp_path / "ready").exists, act)
    assert completed_loss(ending) == 5.0


def test_half_a_result_file_is_no_result_of_a_program_that_hangs(tmp_path: Path) -> None:
    script = "echo loss=3; printf '{\"loss\": 5' > $BBOPT_RESULT_FILE; sleep 60"
    ending = shell(tmp_path, script, Limits(timeout_s=1, grace_s=0.3)).run()
    assert ending == Failed("ran longer than 1 s", retryable=False)


def test_a_step_is_no_result_of_a_preempted_trial(tmp_path: Path) -> None:
    script = (
        "trap 'exit 0' TERM; echo '::bbopt::{\"step\": 1, \"loss\": 5}'; touch $OUT/ready;"
        "while :; do sleep 0.02; done"
    )
    trial = shell(tmp_path, script, Limits(grace_s=10))
    ending = trial.run_until((tmp_path / "ready").exists, trial.preempt)
    assert isinstance(ending, Release)


def test_nothing_is_told_of_a_cancelled_trial(tmp_path: Path) -> None:
    trial = shell(tmp_path, "echo loss=1; touch $OUT/ready; sleep 30")

    def cancel() -> None:
        trial.order = (Order.CANCEL, "lease lost")

    ending = trial.run_until((tmp_path / "ready").exists, cancel)
    assert ending == Drop("lease lost")


def test_a_result_that_was_there_when_the_lease_was_lost_is_told(tmp_path: Path) -> None:
    script = (
        "trap 'exit 0' TERM; echo '{\"loss\": 5}' > $BBOPT_RESULT_FILE; touch $OUT/ready;"
        "while :; do sleep 0.02; done"
    )
    trial = shell(tmp_path, script, Limits(grace_s=10))

    def cancel() -> None:
        trial.order = (Order.CANCEL, "lease lost")

    ending = trial.run_until((tmp_path / "ready").exists, cancel)
    assert completed_loss(ending) == 5.0


def test_a_trial_that_runs_too_long_is_ended_and_not_repeated(tmp_path: Path) -> None:
    ending = shell(tmp_path, "sleep 30", Limits(timeout_s=0.2, grace_s=0.3)).run()
    assert ending == Failed("ran longer than 0.2 s", retryable=False)


def test_a_slow_server_does_not_hold_up_the_program(tmp_path: Path) -> None:
    script = (
        "import json, os\n"
        "for step in range(3000):\n"
        "    line = json.dumps({'step': step, 'loss': step, 'pad': 'x' * 100})\n"
        "    print('::bbopt::' + line, flush=True)\n"
        "open(os.path.join(os.environ['OUT'], 'done'), 'w')\n"
        "print('loss=7')\n"
    )
    trial = Trial(tmp_path, sys.executable, "-c", script)

    def wait_for_the_end(*_report: object) -> bool:
        # Answers only once the program is through: it must not depend on the answer.
        wait_until((tmp_path / "done").exists)
        return False

    trial.evaluation.reporter = Reporter(wait_for_the_end)
    assert completed_loss(trial.run()) == 2999.0
