"""URI of the broker that a command is given."""

from __future__ import annotations

import argparse
import getpass
import os
import sys
from collections.abc import Sequence

from fabric_nb.fabric.amqp.credentials import BrokerUri, complete_each


def configured_uri(options: argparse.Namespace, *, prompt: bool = True) -> str:
    """Return the URI of ``--uri`` or AMQP_URL with its login; empty if neither is given.

    A terminal may prompt for the password. For a cluster the URI lists all nodes.

    Raises:
        BrokerUnavailable: the password is not known.
    """
    uri = options.uri or os.environ.get("AMQP_URL")
    # Otherwise `getpass` would echo.
    has_prompt = prompt and sys.stdin is not None and sys.stdin.isatty()
    return _joined(complete_each(uri, ask=getpass.getpass if has_prompt else None)) if uri else ""


def _joined(nodes: Sequence[str]) -> BrokerUri:
    """Return one URI for the nodes of a cluster, which only differ in their hosts."""
    from yarl import URL

    scheme, _, rest = nodes[0].partition("://")
    authority, slash, place = rest.partition("/")
    login, at, _ = authority.rpartition("@")
    hosts = ",".join(URL(node).raw_authority.rpartition("@")[2] for node in nodes)
    return BrokerUri(f"{scheme}://{login}{at}{hosts}{slash}{place}")
