"""The demo: a broker and three services.

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

from fabric_nb.demo.running import ENDING, run_beside_demo
from fabric_nb.demo.services import DOMAIN

TOUR = Path("notebooks/01_tour.ipynb")


def main() -> int:
    """Set up what was asked for; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m fabric_nb.demo", description="The demo's broker and services."
    )
    parser.add_argument("what", choices=["lab", "services"])
    parser.add_argument("--notebook", type=Path, default=TOUR, help="the notebook that lab opens")
    parser.add_argument("--domain", default=DOMAIN, help="the domain of the services")
    parser.add_argument("--until-eof", action="store_true", help="stop when the input ends")
    args = parser.parse_args()

    def work() -> int:
        if args.what == "lab":
            return _lab(args.notebook)
        return _idle(until_eof=args.until_eof)

    return run_beside_demo(work, args.domain)


def _idle(*, until_eof: bool) -> int:
    print("Running; stop with Ctrl-C.", flush=True)
    if until_eof:
        sys.stdin.read()
        return 0
    while True:
        time.sleep(3600)  # a signal ends it, see `run_beside_demo`


def _lab(notebook: Path) -> int:
    # Jupyter warns root, who is often the only user of a container; the server is local.
    root = ["--allow-root"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
    command = [sys.executable, "-m", "jupyterlab", str(notebook), *root]
    with subprocess.Popen(command) as lab:  # noqa: S603
        # It asks whether Ctrl-C was meant, and the services are there until it has ended.
        for number in ENDING:
            signal.signal(number, lambda *_: lab.terminate())
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        return lab.wait()


if __name__ == "__main__":
    sys.exit(main())
