"""The report on many studies on one server: recorded runs in, Markdown out."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from benchmarks.recording import Line, Recorded, fenced, table, verdict, versions_line
from benchmarks.service_processes import Memory

MOST_WAIT: Final = 20.0
"""Medians that no ask may take."""
MOST_MEMORY_KIB: Final = 64.0
"""Memory that a study may take beyond its data at rest."""


@dataclass(frozen=True, slots=True)
class Setting:
    """What a run is known by."""

    clients: int
    studies: int = 1000
    observations: int = 30
    """Of each study."""
    parameters: int = 6
    templates: int = 10
    """Studies of which the others are copies."""
    laps: int = 3
    large: int = 0
    """Observations of the large study; 0 if there is none."""
    processes: int = 1
    idle: float = 8.0
    server: str = ""
    """More flags of it."""

    def cells(self) -> list[str]:
        """Return the cells that begin the row of a lap."""
        large = [str(self.large), f"`{self.server}`" if self.server else ""]
        return [*(large if self.large else []), str(self.studies), str(self.clients)]


@dataclass(frozen=True, slots=True)
class Lap:
    """What happened while the clients went once through all studies; all in milliseconds."""

    ask_p50: float
    ask_p90: float
    ask_p99: float
    ask_max: float
    tell_p50: float
    front: float
    """CPU of an ask and a tell, what was computed ahead included."""
    compute: float

    @property
    def worst(self) -> float:
        """The longest wait for an ask, in medians."""
        return self.ask_max / self.ask_p50

    def cells(self) -> list[str]:
        """Return the cells of a table."""
        asks = (self.ask_p50, self.ask_p90, self.ask_p99, self.ask_max, self.worst)
        return [f"{each:.1f}" for each in (*asks, self.tell_p50, self.front, self.compute)]


@dataclass(frozen=True, slots=True)
class Run:
    """What a server with many studies was seen to do."""

    setting: Setting
    laps: Sequence[Lap]
    large: Sequence[float]
    """Milliseconds of each ask of the large study."""
    empty: Memory
    """After the warm-up."""
    busy: Memory
    """Right after the last lap."""
    at_rest: Memory
    """When nobody has asked for a while."""
    data_kib: float
    """Of one study in the database."""

    @classmethod
    def from_row(cls, row: Line) -> "Run":
        """Read a line of the records."""
        memory = {name: Memory(**row[name]) for name in ("empty", "busy", "at_rest")}
        setting, laps = Setting(**row["setting"]), [Lap(**each) for each in row["laps"]]
        return cls(setting, laps, row["large"], **memory, data_kib=row["data_kib"])

    def memory_kib(self, memory: Memory) -> float:
        """Return what a study takes."""
        return 1024.0 * (memory.total_mib - self.empty.total_mib) / self.setting.studies

    def lap_rows(self) -> list[list[str]]:
        """Return a row of cells for each lap."""
        return [
            [*self.setting.cells(), str(number), *lap.cells()]
            for number, lap in enumerate(self.laps, 1)
        ]

    def memory_rows(self) -> list[list[str]]:
        """Return a row of cells for each time at which memory was read."""
        named = {"right after the laps": self.busy, "at rest": self.at_rest}
        return [
            [
                *self.setting.cells(),
                when,
                f"{memory.front_mib - self.empty.front_mib:.1f}",
                f"{memory.compute_mib - self.empty.compute_mib:.1f}",
                f"{self.memory_kib(memory):.1f}",
                f"{self.data_kib:.1f}",
                f"{self.memory_kib(memory) - self.data_kib:.1f}",
            ]
            for when, memory in named.items()
        ]

    def verdicts(self) -> list[str]:
        """Compare waits and memory with what is wanted."""
        large = f", a large one of {self.setting.large}" if self.setting.large else ""
        clients = "1 client" if self.setting.clients == 1 else f"{self.setting.clients} clients"
        name = f"{self.setting.studies} studies{large}, {clients}"
        name += f", {self.setting.server}" if self.setting.server else ""
        lines = [
            verdict(
                lap.worst <= MOST_WAIT,
                f"{name}, lap {number}: the longest wait is {lap.worst:.1f} medians, "
                f"wanted <= {MOST_WAIT:g}",
            )
            for number, lap in enumerate(self.laps, 1)
        ]
        if self.setting.large:
            return lines  # Its memory is in the sums.
        beyond = self.memory_kib(self.at_rest) - self.data_kib
        text = f"{name}: a study at rest takes {beyond:.1f} KiB beyond its data, "
        return [
            *lines,
            verdict(beyond <= MOST_MEMORY_KIB, f"{text}wanted <= {MOST_MEMORY_KIB:g}"),
        ]


TIMES: Final = (
    "lap",
    "ask p50",
    "p90",
    "p99",
    "max",
    "max / p50",
    "tell p50",
    "front",
    "compute",
)
MEMORY: Final = ("when", "front, MiB", "compute, MiB", "KiB a study", "its data", "beyond")


def report(recorded: Recorded) -> list[str]:
    """Lay out the tables and the verdicts, in Markdown."""
    runs = [Run.from_row(row) for row in recorded.rows]
    runs.sort(key=lambda run: (run.setting.large, run.setting.server, run.setting.clients))
    small = [run for run in runs if not run.setting.large]
    among = [run for run in runs if run.setting.large]
    head = ["studies", "clients"]
    tables = []
    if small:
        tables.append(table([*head, *TIMES], (row for run in small for row in run.lap_rows())))
        tables.append(
            table([*head, *MEMORY], (row for run in small for row in run.memory_rows()))
        )
    if among:
        head = ["large one", "flags", *head]
        tables.append(table([*head, *TIMES], (row for run in among for row in run.lap_rows())))
        tables.append(table([*head, "its asks", "p50", "max"], map(_of_large, among)))
    lines = [line for each in tables for line in ("", *each)][1:]
    lines += fenced(line for run in runs for line in run.verdicts())
    return lines + versions_line(recorded)


def _of_large(run: Run) -> list[str]:
    p50 = sorted(run.large)[len(run.large) // 2]
    return [*run.setting.cells(), str(len(run.large)), f"{p50:.1f}", f"{max(run.large):.1f}"]
