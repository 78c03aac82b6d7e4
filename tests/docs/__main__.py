"""`make notebooks`: run the manual's notebooks and store them with their outputs.

The demo's services run beside them. Steps that need RabbitMQ use a private cluster with TLS, of
which one node is killed.

python -m tests.docs [NOTEBOOK ...]
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from fabric_nb.demo.runner import run_with_demo
from tests.docs import notebooks
from tests.support.certificates import Certificates
from tests.support.rabbitmq_cluster import NAMES, RabbitMqCluster

NOTEBOOKS = Path("notebooks")


def main() -> int:
    """Run the notebooks of the command line, or all, and return the exit code."""
    paths = [Path(path) for path in sys.argv[1:]] or sorted(NOTEBOOKS.glob("*.ipynb"))
    with TemporaryDirectory() as folder:
        certificates = Certificates(Path(folder))
        pem = certificates.issue("localhost")
        options = f'[{{certfile, "{pem}"}}, {{keyfile, "{pem}"}}]'
        with RabbitMqCluster.start(ssl_options=options) as cluster:
            hosts = ",".join(f"localhost:{node.tls_port}" for node in cluster.nodes)
            last = cluster.nodes[-1]  # the first one is killed
            os.environ["RABBITMQ_URL"] = f"amqps://{hosts}/?cafile={certificates.authority}"
            os.environ["RABBITMQ_API"] = last.management_uri
            os.environ["RABBITMQ_KILL"] = str(_killer(cluster, Path(folder)))
            os.environ.pop("AMQP_URL", None)
            return run_with_demo(lambda: _run(paths))


def _run(paths: Sequence[Path]) -> int:
    """Run notebooks, store those without a failed step, and return the exit code."""
    failures = 0
    for path in paths:
        print(f"Notebook  {path}", flush=True)
        executed = notebooks.run(path)
        failed = notebooks.report(notebooks.steps(executed))
        if not failed:
            notebooks.store(executed, path)
        failures += failed
    print(f"{failures} steps failed." if failures else "All steps passed.")
    return 1 if failures else 0


def _killer(cluster: RabbitMqCluster, folder: Path) -> Path:
    """Return a command that kills a node by its name."""
    script = folder / "kill-node"
    nodes = zip(NAMES, cluster.nodes, strict=True)
    cases = "".join(f"{name}@localhost) kill -KILL {node.pid};;\n" for name, node in nodes)
    script.write_text(f'#!/bin/sh\ncase "$1" in\n{cases}esac\n')
    script.chmod(0o700)
    return script


if __name__ == "__main__":
    sys.exit(main())
