"""Demo of a broker and three services.

python -m fabric_nb.demo lab           open JupyterLab on the tour
python -m fabric_nb.demo services      only run the services, until interrupted
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from fabric_nb.demo.runner import STOP_SIGNALS, run_with_demo
from fabric_nb.demo.services import DOMAIN

TOUR = Path("notebooks/01_tour.ipynb")


def main() -> int:
    """Run a command, and return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m fabric_nb.demo", description="The demo's broker and services."
    )
    parser.add_argument("command", choices=["lab", "services"])
    parser.add_argument("--notebook", type=Path, default=TOUR, help="the notebook that lab opens")
    parser.add_argument("--domain", default=DOMAIN, help="the domain of the services")
    parser.add_argument("--until-eof", action="store_true", help="stop when the input ends")
    args = parser.parse_args()

    def work() -> int:
        if args.command == "lab":
            return _lab(args.notebook)
        return _wait(until_eof=args.until_eof)

    return run_with_demo(work, args.domain)


def _wait(*, until_eof: bool) -> int:
    print("Running; stop with Ctrl-C.", flush=True)
    if until_eof:
        sys.stdin.read()
        return 0
    while True:
        time.sleep(3600)  # ended by a signal, see `run_with_demo`


def _lab(notebook: Path) -> int:
    # Jupyter refuses to run as root, often the only user of a container; the server is local.
    root = ["--allow-root"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
    command = [sys.executable, "-m", "jupyterlab", str(notebook), *root]
    with subprocess.Popen(command) as lab:  # noqa: S603
        # JupyterLab asks for confirmation of Ctrl-C; the services run until it has ended.
        for number in STOP_SIGNALS:
            signal.signal(number, lambda *_: lab.terminate())
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        return lab.wait()


if __name__ == "__main__":
    sys.exit(main())
