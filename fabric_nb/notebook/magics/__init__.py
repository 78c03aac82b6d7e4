"""Magics of the extension."""

from __future__ import annotations

import re
from functools import cached_property
from typing import TYPE_CHECKING, Any

from IPython.core.completer import CompletionContext, SimpleMatcherResult, context_matcher
from IPython.core.interactiveshell import InteractiveShell

from fabric_nb.errors import NotConnected
from fabric_nb.notebook.inspection import Fields, method_help
from fabric_nb.notebook.magics.base import SessionMagics
from fabric_nb.notebook.magics.calling import CallingMagics
from fabric_nb.notebook.magics.checking import CheckingMagics
from fabric_nb.notebook.magics.connecting import ConnectingMagics
from fabric_nb.notebook.magics.data import DataMagics
from fabric_nb.notebook.magics.serving import ServingMagics
from fabric_nb.notebook.magics.watching import WatchingMagics

if TYPE_CHECKING:
    from fabric_nb.fabric.connector import AmqBrokerConnector
    from fabric_nb.fabric.discovery.services import Service
    from fabric_nb.notebook.completion import Candidates


class FabricMagics(
    CheckingMagics, ConnectingMagics, WatchingMagics, CallingMagics, ServingMagics, DataMagics
):
    """Magics for an AMQP fabric; ``%config FabricMagics`` lists the settings."""

    def __init__(self, shell: InteractiveShell) -> None:
        super().__init__(shell)

        @context_matcher()
        def fabric_matcher(context: CompletionContext) -> SimpleMatcherResult:
            lines = context.full_text.split("\n")[: context.cursor_line]
            text = "\n".join([*lines, context.text_until_cursor])
            if not _MAGIC_OR_CALL.search(text):
                return {"completions": []}
            from fabric_nb.notebook.completion import completions

            return completions(text, self.completion_candidates())

        self.matcher = fabric_matcher
        """Matcher that IPython's completer calls at each Tab."""

    def completion_candidates(self) -> Candidates:
        """Return the candidates for Tab; without a connection, only the options."""
        from fabric_nb.notebook.completion import Candidates

        names = [each.name for each in self._open_connections]
        services: list[Service] = []
        own: list[str] = []
        if self.connected:
            services, own = _known_services(self.session.fabric), self.session.stoppable()
        return Candidates(
            services, own, self._options, self._services_of, names, self._services_by_connection
        )

    def _services_of(self, variable: str) -> list[Service] | None:
        from fabric_nb.fabric.connector import AmqBrokerConnector

        value = self._user_shell.user_ns.get(variable)
        return _known_services(value) if isinstance(value, AmqBrokerConnector) else None

    def _services_by_connection(self, name: str) -> list[Service]:
        connection = self.session.connections.get(name)
        return [] if connection is None else _known_services(connection.fabric)

    async def method_help(self, call: str) -> Fields | None:
        """Return the help that Shift-Tab shows for a call; None if the method is not known."""
        if self.open_session is None:
            return None
        try:
            connection, call = self.open_session.connections.resolve(call)
        except NotConnected:
            return None
        return await method_help(connection.member, call)

    @cached_property
    def _options(self) -> dict[str, list[str]]:
        names = {name for kind in self.magics.values() for name in kind}
        return {name: _options(getattr(self, name)) for name in names}


_MAGIC_OR_CALL = re.compile(r"%fabric[_\s]|!\s*fabric-nb|\.[a-z_]+\(\s*['\"]")


def _known_services(fabric: AmqBrokerConnector) -> list[Service]:
    return fabric.registry.services(domain=fabric.domain)


def _options(magic: Any) -> list[str]:
    """Return the long options of a magic, from its usage line."""
    return re.findall(r"--[a-z][a-z-]*", magic.parser.format_usage())


def _of_all_bases(kind: str) -> dict[str, str]:
    bases = [base for base in FabricMagics.__bases__ if issubclass(base, SessionMagics)]
    return {name: method for base in bases for name, method in base.magics[kind].items()}


# IPython registers these; `magics_class` has only listed the magics that each base class defines.
FabricMagics.magics = {kind: _of_all_bases(kind) for kind in ("line", "cell")}
