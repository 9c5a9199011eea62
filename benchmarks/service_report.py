"""How what ``benchmarks.service`` measured is laid out: a table for each of its parts.

A row of the records says in ``part`` of which table it is; its other fields are the columns.
"""

from collections.abc import Mapping, Sequence
from typing import Final

from benchmarks.recording import Line, Recorded, fenced, table, verdict, versions_line

PARTS: Final[Mapping[str, str]] = {
    "pairs": """\
Ask + tell of studies of 20 parameters, each tell and each handed-out trial durable before it is
answered, full validation. A pair is two calls, or one of `TellAndAsk`; "of echo" is pairs a
second as a share of the calls a second of a bare gRPC server that echoes 100 bytes, by as many
clients, just before and after the row. Milliseconds; the last three are CPU time of a pair.""",
    "interference": """\
Other calls while another study's model (20 parameters, 200 observations) is fitted without a
pause, 300 of each, ms. "loop" is by how much a probe inside the front woke up late.""",
    "gp": """\
Ask of a Gaussian process right after a tell, ms: the model has seen the tell.""",
    "queue": """\
Ask a quarter of a second after each tell (`--only queue`), 100 observations, ms: the
[ready queue](concepts.md) has computed the point by then. Beside it, called in turn by the
same client, a bare gRPC echo, a call of the server that reads nothing, and the tell. "of echo"
is the ratio of the medians of ask and echo.""",
    "recovery": """\
Start, and recovery after `kill -9`, with a study of 500 observations and 20 parameters,
seconds.""",
    "memory": """\
The front's own memory (anonymous pages) over tells of one study, MiB; SQLite's cache has 16 of
them.""",
}
"""What each table shows, in the order of the report."""
WANTED_PAIRS: Final = 500
WANTED_OF_ECHO: Final = 0.25


def report(recorded: Recorded) -> list[str]:
    """Lay out the tables and the verdicts, in Markdown."""
    lines: list[str] = []
    for part, text in PARTS.items():
        rows = [row for row in recorded.rows if row["part"] == part]
        if rows:
            head = [name for name in rows[0] if name != "part"]
            cells = ([_shown(row[name]) for name in head] for row in rows)
            lines += [text, "", *table(head, cells), ""]
    judged = (_judge(row) for row in recorded.rows if row["part"] == "pairs")
    lines = lines[:-1] + fenced(line for verdicts in judged for line in verdicts)
    return lines + versions_line(recorded)


def _shown(value: float | str | None) -> str:
    match value:
        case None:
            return ""
        case float():
            return f"{value:.0f}" if value >= 99.95 else f"{value:#.3g}"
        case _:
            return str(value)


def _judge(row: Line) -> Sequence[str]:
    """Judge many clients of one study of Sobol points; of the echo by calls, not by pairs."""
    if (row["strategy"], row["studies"]) != ("sobol", 1) or row["clients"] == 1:
        return ()
    n_per_s, n_calls = row["pairs/s"], 2.0 * row["of echo"]
    name = f"{row['clients']} clients of one study, a pair in {row['calls']}"
    return (
        verdict(
            n_per_s >= WANTED_PAIRS, f"{name}: {n_per_s:.0f} pairs/s, wanted {WANTED_PAIRS}"
        ),
        verdict(
            n_calls >= WANTED_OF_ECHO,
            f"{name}: {n_calls:.1%} of the echo's calls, wanted {WANTED_OF_ECHO:.0%}",
        ),
    )
