"""`make notebooks`: run the manual's notebooks and store them with what they showed.

As ``python -m fabric_nb.demo notebooks``, with a private RabbitMQ, which speaks TLS, for the steps
that need one.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from yarl import URL

from tests.support.certificates import Certificates
from tests.support.rabbitmq import RabbitMq


def main() -> int:
    """Run those that are named, or all; returns the exit code."""
    named = [option for path in sys.argv[1:] for option in ("--notebook", path)]
    with TemporaryDirectory() as folder:
        made = Certificates(Path(folder))
        shown = made.issue("localhost")
        options = f'[{{certfile, "{shown}"}}, {{keyfile, "{shown}"}}]'
        with RabbitMq.start(ssl_options=options) as rabbitmq, rabbitmq.private_vhost() as vhost:
            uri = URL(rabbitmq.uri_for(vhost=vhost)).with_scheme("amqps").with_host("localhost")
            uri = uri.with_port(rabbitmq.tls_port).with_query(cafile=str(made.authority))
            environment = {**os.environ, "RABBITMQ_URL": str(uri)}
            environment.pop("AMQP_URL", None)
            return subprocess.call(
                [sys.executable, "-m", "fabric_nb.demo", "notebooks", *named], env=environment
            )


if __name__ == "__main__":
    sys.exit(main())
