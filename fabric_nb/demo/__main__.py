"""The demo: a broker, three services, and what is to be done with them.

python -m fabric_nb.demo tour          run the tour headless; exit 0 when every step passed
python -m fabric_nb.demo lab           open JupyterLab on the tour
python -m fabric_nb.demo services      only run the services, until interrupted
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
from pathlib import Path

from fabric_nb.demo.broker import demo_broker
from fabric_nb.demo.services import DOMAIN, DemoFailed, demo_services

TOUR = Path("notebooks/01_tour.ipynb")
PAGE = Path("build/tour.html")


def main() -> int:
    """Set up what was asked for; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m fabric_nb.demo", description="The demo's broker and services."
    )
    parser.add_argument("what", choices=["tour", "lab", "services"])
    parser.add_argument("--notebook", type=Path, default=TOUR)
    parser.add_argument("--page", type=Path, default=PAGE)
    args = parser.parse_args()
    try:
        with demo_broker() as broker:
            print(f"Broker    {broker.shown}", flush=True)
            with demo_services(broker.uri):
                print(f"Services  math.calc (2 instances), host.monitor, in {DOMAIN}", flush=True)
                match args.what:
                    case "tour":
                        return _tour(args.notebook, args.page)
                    case "lab":
                        return _lab(args.notebook)
                print("Running; stop with Ctrl-C.", flush=True)
                signal.pause()
    except DemoFailed as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        pass
    return 0


def _tour(notebook: Path, page: Path) -> int:
    from fabric_nb.demo.tour import run_tour

    print(f"Tour      {notebook}", flush=True)
    steps = run_tour(notebook, page)
    for step in steps:
        print(step)
    failed = [step for step in steps if not step.passed]
    for step in failed:
        print(f"\n{step.name} showed:\n{step.saw}", file=sys.stderr)
    print(f"{len(steps) - len(failed)} of {len(steps)} steps passed. Page: {page}")
    return 1 if failed else 0


def _lab(notebook: Path) -> int:
    # Jupyter warns root, who is often the only user of a container; the server is local.
    root = ["--allow-root"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
    return subprocess.call([sys.executable, "-m", "jupyterlab", str(notebook), *root])  # noqa: S603


if __name__ == "__main__":
    sys.exit(main())
