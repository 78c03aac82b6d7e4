"""`make notebooks`: run the manual's notebooks and store them with what they showed.

As ``python -m fabric_nb.demo notebooks``, with a private RabbitMQ for the steps that need one.
"""

from __future__ import annotations

import os
import subprocess
import sys

from tests.support.rabbitmq import RabbitMq


def main() -> int:
    """Run those that are named, or all; returns the exit code."""
    named = [option for path in sys.argv[1:] for option in ("--notebook", path)]
    with RabbitMq.start() as rabbitmq, rabbitmq.private_vhost() as vhost:
        environment = {**os.environ, "RABBITMQ_URL": rabbitmq.uri_for(vhost=vhost)}
        environment.pop("AMQP_URL", None)
        return subprocess.call(
            [sys.executable, "-m", "fabric_nb.demo", "notebooks", *named], env=environment
        )


if __name__ == "__main__":
    sys.exit(main())
