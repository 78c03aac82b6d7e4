"""``%fabric_doctor``."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence

from IPython.core.error import UsageError
from IPython.core.magic import line_magic, magics_class, no_var_expand
from IPython.core.magic_arguments import argument, magic_arguments
from IPython.display import display

from fabric_nb.broker.launch import find_broker
from fabric_nb.fabric.credentials import BrokerUri
from fabric_nb.fabric.doctor import LISTEN, Diagnosis, Finding, Severity
from fabric_nb.notebook import arguments
from fabric_nb.notebook.arguments import seconds, unquoted
from fabric_nb.notebook.bridge import broken_nesting, wait
from fabric_nb.notebook.magics.connecting import SAVED, ConnectingMagics, tells_password
from fabric_nb.notebook.pages import Badge, Cell, Page, Table, Tone

TONES: dict[Severity, Tone] = {
    Severity.OK: "good",
    Severity.UNKNOWN: "quiet",
    Severity.WARNING: "warn",
    Severity.ERROR: "bad",
}


@magics_class
class CheckingMagics(ConnectingMagics):
    """Find out what is wrong."""

    @no_var_expand
    @magic_arguments()
    @argument("uri", nargs="?", type=unquoted, help="Another broker than the one we are on.")
    @argument("--domain", "-d", type=unquoted, help="The fabric's domain, with another broker.")
    @argument("--type", type=unquoted, help="This notebook's type, with another broker.")
    @argument("--id", type=unquoted, help="This notebook's id, with another broker.")
    @argument("--wait", type=seconds, default=LISTEN, help="Seconds to listen for others.")
    @argument("--timeout", type=seconds, help="Seconds that connecting may take.")
    @argument(
        "--subscriber",
        action="append",
        type=unquoted,
        default=[],
        help="A name that streams share, besides our own; may be given several times.",
    )
    @line_magic
    def fabric_doctor(self, line: str) -> None:
        """Look for what is wrong: with the broker, our rights, the others; and say what to do.

        In [2]: %fabric_doctor
        In [3]: %fabric_doctor amqps://ann@broker.example/ --domain my_project

        Works connected and not connected, over a connection of its own, and leaves nothing
        behind at the broker. In programs: await fabric.diagnose().
        """
        with self._told(self.fabric_doctor.parser):
            args = arguments.parse(self.fabric_doctor.parser, line)
            if args.uri is None and self.session.connected:
                fabric = self.session.fabric
            else:
                fabric = self._connector(self._broker_that_runs(args.uri), args)
            diagnosis = wait(
                fabric.diagnose(
                    seconds=args.wait,
                    timeout=args.timeout or self.connect_timeout,
                    subscriptions=args.subscriber,
                )
            )
            display(_page(Diagnosis([*diagnosis, *_of_notebook(args.uri)])).mimebundle(), raw=True)

    def _broker_that_runs(self, uri: str | None) -> list[BrokerUri]:
        given = uri or self.uri or os.environ.get("AMQP_URL", "")
        if given:
            return self._completed(given)
        found = find_broker()
        if found is None:
            raise UsageError(
                "There is no broker to look at: write %fabric_doctor amqp://user@host/, or set"
                " AMQP_URL."
            )
        return [BrokerUri(found.uri)]


def _of_notebook(uri: str | None) -> Iterator[Finding]:
    """What can be wrong with a notebook alone."""
    nesting = broken_nesting()
    if nesting is not None:
        yield _warning("waiting in cells", nesting)
    else:
        yield Finding("waiting in cells", Severity.OK, "Nothing else has patched asyncio.")
    if uri and tells_password(uri):
        yield _warning("password", SAVED)


def _warning(check: str, told: str) -> Finding:
    """A finding made of a sentence that says what is wrong, and behind a colon what to do."""
    found, _, advice = told.partition(": ")
    return Finding(check, Severity.WARNING, f"{found}.", advice[:1].upper() + advice[1:])


def _page(diagnosis: Diagnosis) -> Page:
    rows: list[Sequence[Cell]] = [
        [one.check, Badge(str(one.severity), TONES[one.severity]), one.found, one.advice]
        for one in diagnosis
    ]
    worst = diagnosis.worst
    counts = [f"{diagnosis.count(one)} {one}" for one in Severity if diagnosis.count(one)]
    return Page(
        title="Doctor",
        badges=[Badge(str(worst), TONES[worst])],
        facts=[", ".join(counts)],
        tables=[Table(["check", "", "found", "what to do"], rows)],
    )
