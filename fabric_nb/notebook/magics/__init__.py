"""The magics: what is written in a cell becomes a call to the session."""

from __future__ import annotations

import re
from typing import Any

from IPython.core.interactiveshell import InteractiveShell

from fabric_nb.notebook.completion import Known, matcher
from fabric_nb.notebook.magics.base import SessionMagics
from fabric_nb.notebook.magics.calling import CallingMagics
from fabric_nb.notebook.magics.checking import CheckingMagics
from fabric_nb.notebook.magics.connecting import ConnectingMagics
from fabric_nb.notebook.magics.data import DataMagics
from fabric_nb.notebook.magics.serving import ServingMagics
from fabric_nb.notebook.magics.watching import WatchingMagics
from fabric_nb.notebook.session import Session


class FabricMagics(
    CheckingMagics, ConnectingMagics, WatchingMagics, CallingMagics, ServingMagics, DataMagics
):
    """Magics to work on an AMQP fabric; ``%config FabricMagics`` lists what can be set."""

    def __init__(self, shell: InteractiveShell, session: Session) -> None:
        self.matcher = matcher(self.known)
        super().__init__(shell, session)

    def known(self) -> Known | None:
        """What Tab completes with; None when there is no connection."""
        if not self.session.connected:
            return None
        fabric = self.session.fabric
        return Known(
            services=fabric.registry.services(domain=fabric.domain),
            own=self.session.own_names(),
            options={name: _options(magic) for name, magic in self._magics().items()},
        )

    def _magics(self) -> dict[str, Any]:
        names = {name for kind in self.magics.values() for name in kind}
        return {name: getattr(self, name) for name in names}


def _options(magic: Any) -> list[str]:
    """The long options of a magic, as its usage line has them."""
    return re.findall(r"--[a-z][a-z-]*", magic.parser.format_usage())


def _of_all_bases(kind: str) -> dict[str, str]:
    bases = [base for base in FabricMagics.__bases__ if issubclass(base, SessionMagics)]
    return {name: method for base in bases for name, method in base.magics[kind].items()}


# Where IPython looks; `magics_class` has noted only what each of the bases defines itself.
FabricMagics.magics = {kind: _of_all_bases(kind) for kind in ("line", "cell")}
