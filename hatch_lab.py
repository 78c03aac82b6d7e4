"""Builds the JupyterLab panel into the wheel, and into a developer's environment.

As a hook of the build: a wheel has the panel if it is built already, as in an sdist, or if Node is
there to build it. Without Node the wheel comes without the panel, and a warning says so. Editable
installs never wait for it. As a program::

    python hatch_lab.py            build what is out of date, and link it into this environment

``FABRIC_NB_REQUIRE_LAB=1`` makes a missing panel an error, as releases need it.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

try:
    from hatchling.builders.hooks.plugin.interface import BuildHookInterface
except ModuleNotFoundError:  # run as a program, outside of a build
    BuildHookInterface = object

NAME = "fabric-nb"
BUILDER = "jupyter-builder>=1.2,<2"
"""Brings `jlpm`, a yarn of a known version, and calls the npm package that bundles."""
SOURCES = ("src", "style", "schema", "package.json", "tsconfig.json", "yarn.lock", ".yarnrc.yml")
SHARED = ("live", "table")
"""Folders of `fabric_nb/notebook` from which the panel takes scripts and styles."""
REQUIRED = "FABRIC_NB_REQUIRE_LAB"


class Panel:
    """The panel's sources and what is built from them.

    Args:
        root: the project's folder.
    """

    def __init__(self, root: Path) -> None:
        self.sources = root / "labextension"
        self._shared = [root / "fabric_nb" / "notebook" / name for name in SHARED]
        self.bundle = root / "fabric_nb" / "labextension"
        self._packed = (root / "PKG-INFO").exists()  # an sdist, which has the bundle of its sources
        self._built_from = root / "build" / "labextension.sha256"

    @property
    def built(self) -> bool:
        """Whether there is a bundle of these very sources."""
        return not self.lacks

    @property
    def lacks(self) -> str:
        """Why there is no bundle of these very sources; nothing when there is one."""
        if not any((self.bundle / "static").glob("remoteEntry.*.js")):
            return "fabric_nb/labextension has no bundle"
        if self._packed:
            return ""
        if not self._built_from.exists():
            return "build/labextension.sha256 does not say of which sources the bundle is"
        if self._built_from.read_text() != self._digest():
            return "its sources have changed since the bundle was built"
        return ""

    @property
    def can_build(self) -> bool:
        """Whether there is a Node to build it with."""
        return shutil.which("node") is not None

    def build(self) -> None:
        """Install the packages of the lock file and bundle."""
        environment = {**_as_npm_does(), **os.environ}
        paths = [sysconfig.get_path("scripts"), environment.get("PATH", os.defpath)]
        environment["PATH"] = os.pathsep.join(paths)  # where jlpm is
        jlpm = shutil.which("jlpm", path=environment["PATH"])
        if jlpm is None:
            raise SystemExit(f"jlpm is missing: pip install '{BUILDER}'")
        for command in (["install", "--immutable"], ["build:prod"]):
            subprocess.run(  # noqa: S603 - our own scripts
                [jlpm, *command], cwd=self.sources, env=environment, check=True
            )
        self._built_from.parent.mkdir(exist_ok=True)
        self._built_from.write_text(self._digest())

    def link(self) -> None:
        """Let this environment's JupyterLab have the bundle as it is, and as it will be."""
        place = Path(sys.prefix, "share", "jupyter", "labextensions", NAME)
        if place.is_symlink():
            place.unlink()
        elif place.exists():
            shutil.rmtree(place)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.symlink_to(self.bundle, target_is_directory=True)

    def _digest(self) -> str:
        digest = hashlib.sha256()
        for name in SOURCES:
            place = self.sources / name
            for path in sorted(place.rglob("*")) if place.is_dir() else [place]:
                if path.is_file():
                    digest.update(f"{path.relative_to(self.sources)}\0".encode())
                    digest.update(path.read_bytes())
        for folder in self._shared:
            for path in sorted([*folder.glob("*.js"), *folder.glob("*.css")]):
                digest.update(f"{path.name}\0".encode())
                digest.update(path.read_bytes())
        return digest.hexdigest()


def _as_npm_does() -> dict[str, str]:
    """Where packages come from and whom to trust there: as npm has it, whose files yarn ignores."""
    npm = shutil.which("npm")
    if npm is None:
        return {}
    variables = {"registry": "YARN_NPM_REGISTRY_SERVER", "cafile": "NODE_EXTRA_CA_CERTS"}
    command = [npm, "config", "get", *variables]
    told = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    settings = dict(line.split("=", 1) for line in told.stdout.splitlines() if "=" in line)
    return {
        variable: settings[name].strip()
        for name, variable in variables.items()
        if settings.get(name, "null").strip() not in ("", "null", "undefined")
    }


class LabBuildHook(BuildHookInterface):
    """Puts the panel into the wheel and the sdist."""

    def dependencies(self) -> list[str]:
        """What building takes; nothing when nothing is to be built."""
        panel = Panel(Path(self.root))
        return [BUILDER] if not panel.built and panel.can_build else []

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Build the panel if that is wanted and possible."""
        if version == "editable":
            return
        panel = Panel(Path(self.root))
        if not panel.built and panel.can_build:
            panel.build()
        if not panel.built:
            problem = f"Node is missing, so the JupyterLab panel is not built ({panel.lacks})"
            if os.environ.get(REQUIRED) == "1":
                raise SystemExit(f"{problem}, and {REQUIRED}=1 requires it.")
            self.app.display_warning(f"{problem}; everything else works without it.")
            return
        if self.target_name == "wheel":
            place = f"share/jupyter/labextensions/{NAME}"
            build_data["shared_data"][str(panel.bundle)] = place
            build_data["shared_data"][str(panel.sources / "install.json")] = f"{place}/install.json"
        else:
            # Not as an artifact: hatchling visits each folder once, and may have come to this one
            # before, by the link in a virtual environment that lies in the project.
            build_data["force_include"][str(panel.bundle)] = "fabric_nb/labextension"


def main() -> int:
    """Build and link for a developer; returns the exit code."""
    panel = Panel(Path(__file__).resolve().parent)
    if not panel.built:
        if not panel.can_build:
            print("Node is missing: JupyterLab will be without the fabric's panel.")  # noqa: T201
            return int(os.environ.get(REQUIRED) == "1")
        panel.build()
    panel.link()
    return 0


if __name__ == "__main__":
    sys.exit(main())
