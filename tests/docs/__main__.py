"""`make notebooks`: run the manual's notebooks and store them with what they showed.

As ``python -m fabric_nb.demo notebooks``, with a private RabbitMQ for the steps that need one: a
cluster, which speaks TLS, and of which a node may be killed.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.support.certificates import Certificates
from tests.support.rabbitmq_cluster import NAMES, RabbitMqCluster


def main() -> int:
    """Run those that are named, or all; returns the exit code."""
    named = [option for path in sys.argv[1:] for option in ("--notebook", path)]
    with TemporaryDirectory() as folder:
        made = Certificates(Path(folder))
        shown = made.issue("localhost")
        options = f'[{{certfile, "{shown}"}}, {{keyfile, "{shown}"}}]'
        with RabbitMqCluster.start(ssl_options=options) as cluster:
            hosts = ",".join(f"localhost:{node.tls_port}" for node in cluster.nodes)
            last = cluster.nodes[-1]  # the first dies
            environment = {
                **os.environ,
                "RABBITMQ_URL": f"amqps://{hosts}/?cafile={made.authority}",
                "RABBITMQ_API": last.management_uri,
                "RABBITMQ_KILL": str(_killer(cluster, Path(folder))),
            }
            environment.pop("AMQP_URL", None)
            return subprocess.call(
                [sys.executable, "-m", "fabric_nb.demo", "notebooks", *named], env=environment
            )


def _killer(cluster: RabbitMqCluster, folder: Path) -> Path:
    """A command that kills the node whose name it is given."""
    script = folder / "kill-node"
    nodes = zip(NAMES, cluster.nodes, strict=True)
    cases = "".join(f"{name}@localhost) kill -KILL {node.pid};;\n" for name, node in nodes)
    script.write_text(f'#!/bin/sh\ncase "$1" in\n{cases}esac\n')
    script.chmod(0o700)
    return script


if __name__ == "__main__":
    sys.exit(main())
