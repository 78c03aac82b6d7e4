"""Kernel side of the form that connects, under a cell and in the panel."""

from __future__ import annotations

import asyncio
import secrets
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from fabric_nb.errors import InvalidArgument
from fabric_nb.fabric.amqp.credentials import BrokerUri, Secret
from fabric_nb.fabric.connector import AmqBrokerConnector
from fabric_nb.fabric.wire.names import check_part
from fabric_nb.notebook.connect.recent import MAX_URI, bare_uri, read, recent_file

LISTEN = 2.0
"""Seconds for which keep-alives are received. Members of fabric_nb answer at once."""
CONNECT_TIMEOUT = 10.0
MAX_DOMAINS = 30
"""Domains that are listed; of more, those with the most services."""
MAX_PASSWORD = 1000

Complete = Callable[[str, str], Sequence[BrokerUri]]
"""Returns a URI and a password, which may be empty, as the URI of each node with its login."""


class BrokerFinder:
    """Answers the requests of the form.

    A password that is entered there is kept in this process, for the cell that the form writes:
    cells and files never contain it.

    Args:
        complete: adds the configured login to a URI.
    """

    def __init__(self, complete: Complete) -> None:
        self._complete = complete
        self._passwords: dict[str, Secret] = {}

    def password_for(self, uri: str) -> str:
        """Return the password that was entered for a URI; empty if there is none."""
        return self._passwords.get(uri, Secret(""))

    async def answer(self, name: str, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return the answer to a request.

        Args:
            name: ``recent``, ``domains`` or ``cell``.
            values: texts by field: ``uri``, ``password``, ``domain``.

        Raises:
            FabricError: a field is wrong, or the broker refuses; the sentence says why.
        """
        match name:
            case "recent":
                recent = await asyncio.to_thread(read, recent_file())
                return {"brokers": [asdict(each) for each in recent.brokers], "flaw": recent.flaw}
            case "domains":
                return await self._domains(self._entered_uri(values))
            case "cell":
                return self._cell(self._entered_uri(values), _text(values, "domain", 63))
        raise InvalidArgument("fabric_nb in this kernel is too old or too new for this form.")

    def _entered_uri(self, values: Mapping[str, Any]) -> str:
        """Return the URI without its password, which is kept."""
        uri, password = bare_uri(_text(values, "uri", MAX_URI + MAX_PASSWORD))
        if password := _text(values, "password", MAX_PASSWORD) or password:
            self._passwords[uri] = Secret(password)
        return uri

    async def _domains(self, uri: str) -> dict[str, Any]:
        fabric = AmqBrokerConnector(
            self._complete(uri, self.password_for(uri)),
            *("discovery", "notebook", f"form-{secrets.token_hex(3)}"),
            keep_alive_listen=True,
        )
        await fabric.open(timeout=CONNECT_TIMEOUT, retry=False)
        try:
            await asyncio.sleep(LISTEN)
            counts = Counter(service.name.domain for service in fabric.registry.services())
        finally:
            await fabric.close()
        found = sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))
        more = len(found) - MAX_DOMAINS
        note = "Choose a domain, or connect."
        if not found:
            note = (
                f"No service was announced within {LISTEN:g} seconds. Those on amqp-fabric are"
                " announced every few seconds: list the domains again, or type one."
            )
        elif more > 0:
            note = f"… and {more:,} more domains, with fewer services: type the one you need."
        return {"uri": uri, "domains": found[:MAX_DOMAINS], "note": note}

    def _cell(self, uri: str, domain: str) -> dict[str, Any]:
        options = f" --domain {check_part(domain, 'domain')}" if domain else ""
        return {"line": f"%fabric_connect {uri}{options}", "uri": uri, "domain": domain}


def _text(values: Mapping[str, Any], name: str, longest: int) -> str:
    value = values.get(name, "")
    if not isinstance(value, str) or len(value) > longest:
        raise InvalidArgument(f"{name} is not a text of up to {longest} characters.")
    return value.strip() if name != "password" else value
