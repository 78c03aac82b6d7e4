"""The demo: a broker, three services, and what is to be done with them.

python -m fabric_nb.demo tour          run the tour headless; exit 0 when every step passed
python -m fabric_nb.demo lab           open JupyterLab on the tour
python -m fabric_nb.demo services      only run the services, until interrupted
python -m fabric_nb.demo notebooks     run all notebooks and store them with what they showed
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from fabric_nb.demo.broker import demo_broker
from fabric_nb.demo.services import DOMAIN, demo_services
from fabric_nb.errors import DemoFailed

if TYPE_CHECKING:
    from fabric_nb.demo.notebooks import Step

NOTEBOOKS = Path("notebooks")
TOUR = Path("notebooks/01_tour.ipynb")
PAGE = Path("build/tour.html")
_ENDING = [
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
]


def main() -> int:
    """Set up what was asked for; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m fabric_nb.demo", description="The demo's broker and services."
    )
    parser.add_argument("what", choices=["tour", "lab", "services", "notebooks"])
    parser.add_argument("--notebook", type=Path, action="append", help="only this one")
    parser.add_argument("--page", type=Path, default=PAGE)
    parser.add_argument("--check", action="store_true", help="run notebooks, but store nothing")
    parser.add_argument("--domain", default=DOMAIN, help="where the services are")
    parser.add_argument("--until-eof", action="store_true", help="stop when the input ends")
    args = parser.parse_args()
    for number in _ENDING:
        if signal.getsignal(number) is not signal.SIG_IGN:  # as nohup has it
            signal.signal(number, _end)
    try:
        with demo_broker() as broker:
            print(f"Broker    {broker.shown}", flush=True)
            with demo_services(broker.uri, args.domain):
                print(
                    f"Services  math.calc (2 instances), host.monitor, in {args.domain}", flush=True
                )
                match args.what:
                    case "tour":
                        return _tour((args.notebook or [TOUR])[0], args.page)
                    case "lab":
                        return _lab((args.notebook or [TOUR])[0])
                    case "notebooks":
                        return _notebooks(
                            args.notebook or sorted(NOTEBOOKS.glob("*.ipynb")), keep=not args.check
                        )
                print("Running; stop with Ctrl-C.", flush=True)
                if args.until_eof:
                    sys.stdin.read()
                else:
                    while True:
                        time.sleep(3600)  # a signal ends it, see `_end`
    except DemoFailed as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        pass
    return 0


def _end(*_: object) -> None:
    """Stop as Ctrl-C does; a second signal does not break off what ends the services."""
    for number in _ENDING:
        signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt


def _tour(notebook: Path, page: Path) -> int:
    from fabric_nb.demo.tour import run_tour

    print(f"Tour      {notebook}", flush=True)
    steps = run_tour(notebook, page)
    failed = _tell(steps)
    print(f"{len(steps) - failed} of {len(steps)} steps passed. Page: {page}")
    return 1 if failed else 0


def _notebooks(paths: list[Path], *, keep: bool) -> int:
    from fabric_nb.demo import notebooks

    failures = 0
    for path in paths:
        print(f"Notebook  {path}", flush=True)
        executed = notebooks.run(path)
        failed = _tell(notebooks.steps(executed))
        if keep and not failed:
            notebooks.store(executed, path)
        failures += failed
    print(f"{failures} steps failed." if failures else "All steps passed.")
    return 1 if failures else 0


def _tell(steps: Sequence[Step]) -> int:
    """Print what each step showed; returns how many failed."""
    for step in steps:
        print(step)
    failed = [step for step in steps if not step.passed]
    for step in failed:
        print(f"\n{step.name} showed:\n{step.saw}", file=sys.stderr)
    return len(failed)


def _lab(notebook: Path) -> int:
    # Jupyter warns root, who is often the only user of a container; the server is local.
    root = ["--allow-root"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
    command = [sys.executable, "-m", "jupyterlab", str(notebook), *root]
    with subprocess.Popen(command) as lab:  # noqa: S603
        # It asks whether Ctrl-C was meant, and the services are there until it has ended.
        for number in _ENDING:
            signal.signal(number, lambda *_: lab.terminate())
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        return lab.wait()


if __name__ == "__main__":
    sys.exit(main())
