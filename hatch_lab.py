"""Build of the JupyterLab panel, for wheels and for development environments.

As a build hook: a wheel includes the panel if it is built already, as in an sdist, or if Node is
installed to build it. Without Node the wheel is built without the panel, with a warning. Editable
installs do not build it. As a program::

    python hatch_lab.py            build the panel if necessary, and link it into this environment

``FABRIC_NB_REQUIRE_LAB=1`` makes a missing panel an error, for releases.
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
"""Provides `jlpm`, a pinned yarn, and calls the bundler."""
SOURCES = ("src", "style", "schema", "package.json", "tsconfig.json", "yarn.lock", ".yarnrc.yml")
SHARED = ("live", "table", "connect")
"""Folders of `fabric_nb/notebook` with scripts and styles that the panel includes."""
REQUIRED = "FABRIC_NB_REQUIRE_LAB"


class Panel:
    """The panel's sources and its bundle.

    Args:
        root: folder of the project.
    """

    def __init__(self, root: Path) -> None:
        self.sources = root / "labextension"
        self._shared = [root / "fabric_nb" / "notebook" / name for name in SHARED]
        self.bundle = root / "fabric_nb" / "labextension"
        self._packed = (root / "PKG-INFO").exists()  # an sdist, which includes the bundle
        self._built_from = root / "build" / "labextension.sha256"

    @property
    def built(self) -> bool:
        """True if there is a bundle of the current sources."""
        return not self.lacks

    @property
    def lacks(self) -> str:
        """Reason why there is no bundle of the current sources; empty if there is one."""
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
        """True if Node is installed."""
        return shutil.which("node") is not None

    def build(self) -> None:
        """Install the packages of the lock file and build the bundle."""
        environment = {**_npm_settings(), **os.environ}
        paths = [sysconfig.get_path("scripts"), environment.get("PATH", os.defpath)]
        environment["PATH"] = os.pathsep.join(paths)  # includes jlpm
        jlpm = shutil.which("jlpm", path=environment["PATH"])
        if jlpm is None:
            raise SystemExit(f"jlpm is missing: pip install '{BUILDER}'")
        for command in (["install", "--immutable"], ["build:prod"]):
            subprocess.run(  # noqa: S603 - scripts of this package
                [jlpm, *command], cwd=self.sources, env=environment, check=True
            )
        self._built_from.parent.mkdir(exist_ok=True)
        self._built_from.write_text(self._digest())

    def link(self) -> None:
        """Link the bundle into this environment's JupyterLab."""
        link = Path(sys.prefix, "share", "jupyter", "labextensions", NAME)
        if link.is_symlink():
            link.unlink()
        elif link.exists():
            shutil.rmtree(link)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(self.bundle, target_is_directory=True)

    def _digest(self) -> str:
        digest = hashlib.sha256()
        for name in SOURCES:
            source = self.sources / name
            for path in sorted(source.rglob("*")) if source.is_dir() else [source]:
                if path.is_file():
                    digest.update(f"{path.relative_to(self.sources)}\0".encode())
                    digest.update(path.read_bytes())
        for folder in self._shared:
            for path in sorted([*folder.glob("*.js"), *folder.glob("*.css")]):
                digest.update(f"{path.name}\0".encode())
                digest.update(path.read_bytes())
        return digest.hexdigest()


def _npm_settings() -> dict[str, str]:
    """Return npm's registry and CA file for yarn, which ignores npm's configuration."""
    npm = shutil.which("npm")
    if npm is None:
        return {}
    variables = {"registry": "YARN_NPM_REGISTRY_SERVER", "cafile": "NODE_EXTRA_CA_CERTS"}
    command = [npm, "config", "get", *variables]
    output = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    settings = dict(line.split("=", 1) for line in output.stdout.splitlines() if "=" in line)
    return {
        variable: settings[name].strip()
        for name, variable in variables.items()
        if settings.get(name, "null").strip() not in ("", "null", "undefined")
    }


class LabBuildHook(BuildHookInterface):
    """Build hook that includes the panel in the wheel and the sdist."""

    def dependencies(self) -> list[str]:
        """Return the packages that the build needs; none if nothing is to be built."""
        panel = Panel(Path(self.root))
        return [BUILDER] if not panel.built and panel.can_build else []

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Build the panel if necessary and possible, and include it."""
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
            target = f"share/jupyter/labextensions/{NAME}"
            build_data["shared_data"][str(panel.bundle)] = target
            build_data["shared_data"][str(panel.sources / "install.json")] = (
                f"{target}/install.json"
            )
        else:
            # Not as an artifact: hatchling visits each folder once, and may have visited this one
            # by the link in a virtual environment inside the project.
            build_data["force_include"][str(panel.bundle)] = "fabric_nb/labextension"


def main() -> int:
    """Build and link the panel for development; return the exit code."""
    panel = Panel(Path(__file__).resolve().parent)
    if not panel.built:
        if not panel.can_build:
            print("Node is missing: JupyterLab will have no fabric panel.")  # noqa: T201
            return int(os.environ.get(REQUIRED) == "1")
        panel.build()
    panel.link()
    return 0


if __name__ == "__main__":
    sys.exit(main())
