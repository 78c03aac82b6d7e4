"""``fabric-nb repl``: IPython with the extension loaded and connected."""

from __future__ import annotations

import argparse
import os


def run(options: argparse.Namespace) -> int:
    """Run IPython until its end; return the exit code."""
    from IPython import start_ipython
    from traitlets.config import Config

    # By environment variables, because a URI in the history or in a setting would be shown.
    if options.uri:
        os.environ["AMQP_URL"] = options.uri
    if options.domain:
        os.environ["SERVICE_DOMAIN"] = options.domain
    config = Config()
    config.TerminalIPythonApp.display_banner = False
    config.InteractiveShellApp.extensions = ["fabric_nb"]
    config.InteractiveShellApp.exec_lines = ["%fabric_connect"]
    start_ipython(argv=[], config=config)
    return 0
