"""From names on the command line to an open client, a study, a trial."""

import os
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bbopt.errors import InvalidError
from bbopt_client.cli.output import Format, choose_format

if TYPE_CHECKING:
    from bbopt_client.client import Client
    from bbopt_client.study import Study


@dataclass(frozen=True, slots=True)
class Globals:
    """Options that stand before the command or behind it."""

    server: str | None = None
    output: Format | None = None

    def merged(self, server: str | None, output: Format | None) -> "Globals":
        """Let what stands behind the command win."""
        return Globals(server or self.server, output or self.output)

    @property
    def format(self) -> Format:
        """How to write data to standard output."""
        return choose_format(self.output, sys.stdout)

    def open(self, *, spools: bool = True, first_contact_s: float = 3.0) -> "Client":
        """Make a client of the server that the command line or the environment names.

        Args:
            spools: Keep results on disk until they are delivered.
            first_contact_s: How long to try a server that was never reached; a person who
                mistyped an address should not wait.
        """
        from bbopt_client.client import Client
        from bbopt_client.settings import ClientOptions

        options = ClientOptions(first_contact_s=first_contact_s)
        return Client(self.server, options=options, outbox=None if spools else False)


def split_study(text: str) -> tuple[str, str]:
    """Read ``STUDY`` or ``projects/PROJECT/studies/STUDY`` into project and study."""
    if "/" not in text:
        return "default", text
    match text.split("/"):
        case ["projects", project, "studies", study]:
            return project, study
        case _:
            raise InvalidError.of("STUDY", f"{text!r} is no name of a study")


def open_study(client: "Client", text: str) -> "Study":
    """Open a study by what was typed."""
    project, name = split_study(text)
    return client.study(name, project=project)


def split_trial(text: str, study: str | None) -> tuple[str, int]:
    """Read ``STUDY/NUMBER``, a full resource name, or a number alone.

    Args:
        text: What was typed.
        study: The study of a number alone.

    Returns:
        The study as it was typed, and the trial's number.

    Raises:
        InvalidError: The text names no trial.
    """
    before, _, last = text.rpartition("/")
    number = int(last) if last.isdecimal() else 0
    if number < 1:
        raise InvalidError.of("TRIAL", f"{text!r} must be STUDY/NUMBER, such as digits/12")
    if before.endswith("/trials"):
        return before.removesuffix("/trials"), number
    chosen = before or study or os.environ.get("BBOPT_STUDY", "")
    if not chosen:
        raise InvalidError.of(
            "TRIAL", f"which study? write STUDY/{number} or add --study STUDY"
        )
    return chosen, number
