"""Installed packages, with the panel if it could be built."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path

import pytest

import fabric_nb

PROJECT = Path(__file__).parents[2]
Done = subprocess.CompletedProcess[str]
IN_WHEEL = "/data/share/jupyter/labextensions/fabric-nb/"


def build(kind: str, source: Path, target: Path, **env: str) -> tuple[Done, list[str]]:
    """Build a wheel or an sdist without Node; return the result and the files in it."""
    result = run(
        *("-m", "hatchling", "build", "-t", kind, "-d", str(target)),
        cwd=source,
        PATH="/nowhere",
        **env,
    )
    built = list(target.glob("*")) if target.exists() else []
    if result.returncode or not built:
        return result, []
    if kind == "wheel":
        with zipfile.ZipFile(built[0]) as wheel:
            return result, wheel.namelist()
    with tarfile.open(built[0]) as sdist:
        return result, sdist.getnames()


def pip_install(source: str, prefix: Path, **env: str) -> Done:
    """Install a package with pip into a separate folder.

    Build tools and dependencies are those of this environment, because downloading them takes a
    minute and needs a network.
    """
    return run(
        *("-m", "pip", "install", "--verbose", "--prefix", str(prefix), "--ignore-installed"),
        *("--no-build-isolation", "--no-deps", "--no-index", "--no-cache-dir", source),
        cwd=prefix.parent,
        **env,
    )


def run(*arguments: str, cwd: Path, **env: str) -> Done:
    """Run Python with these arguments."""
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=cwd,
        env={**os.environ, **env},
        text=True,
        capture_output=True,
        check=False,
    )


def check(action: str, result: Done) -> None:
    """Fail with the output if an action has failed."""
    assert result.returncode == 0, f"{action} failed:\n{result.stdout}{result.stderr}"


def imported_from(prefix: Path) -> Path:
    """Return the file of the package that is imported if the folder is first in the path."""
    place = sysconfig.get_path("purelib", vars={"base": str(prefix)})
    done = run("-c", "import fabric_nb; print(fabric_nb.__file__)", cwd=prefix, PYTHONPATH=place)
    check("importing the package", done)
    return Path(done.stdout.strip())


def panel_under(prefix: Path) -> bool:
    """Return whether the panel is installed there, and JupyterLab accepts it."""
    data = prefix / "share" / "jupyter"
    if not (data / "labextensions").exists():
        return False
    done = run("-m", "jupyter", "labextension", "list", cwd=prefix, JUPYTER_PATH=str(data))
    check("listing the extensions of JupyterLab", done)
    _, _, listed = (done.stdout + done.stderr).partition(f"{data / 'labextensions'}\n")
    return bool(re.match(rf"\s*fabric-nb v{fabric_nb.__version__} \S*enabled\S* \S*OK", listed))


def panel_in(names: list[str]) -> list[str]:
    """Return the files of the panel in a wheel."""
    return [name.partition(IN_WHEEL)[2] for name in names if IN_WHEEL in name]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """Return a copy of the current sources without built files."""
    source = tmp_path / "source"
    for name in ("fabric_nb", "labextension"):
        ignored = shutil.ignore_patterns("__pycache__", "node_modules", "lib", "lib-test")
        shutil.copytree(PROJECT / name, source / name, ignore=ignored)
    for name in (".gitignore", "pyproject.toml", "hatch_lab.py", "README.md", "LICENSE"):
        shutil.copy(PROJECT / name, source)
    shutil.rmtree(source / "fabric_nb" / "labextension", ignore_errors=True)
    return source


@pytest.fixture
def repository(checkout: Path) -> str:
    """Return the address of a git repository with these sources, for pip."""
    environment = {**os.environ, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
    git = ["git", "-c", "user.name=test", "-c", "user.email=test@example.org"]
    for command in ("init --quiet", "add .", "commit --quiet --message=now"):
        subprocess.run([*git, *command.split()], cwd=checkout, env=environment, check=True)
    return f"git+{checkout.as_uri()}"


@pytest.fixture(scope="module")
def built_project() -> Path:
    """Return this checkout, with the panel built."""
    check("building the panel", run("hatch_lab.py", cwd=PROJECT, FABRIC_NB_REQUIRE_LAB="1"))
    return PROJECT


def test_without_node_all_but_the_panel_is_installed(checkout: Path, tmp_path: Path) -> None:
    """Without Node a wheel is built without the panel, with a warning."""
    result, names = build("wheel", checkout, tmp_path / "out", FABRIC_NB_REQUIRE_LAB="")
    assert result.returncode == 0, result.stderr
    assert "Node is missing" in result.stdout + result.stderr
    assert "fabric_nb/__init__.py" in names
    assert panel_in(names) == []


def test_release_requires_the_panel(checkout: Path, tmp_path: Path) -> None:
    """If the panel is required, a build without Node fails with the reason."""
    result, names = build("wheel", checkout, tmp_path / "out", FABRIC_NB_REQUIRE_LAB="1")
    assert result.returncode != 0
    assert names == []
    assert "FABRIC_NB_REQUIRE_LAB=1 requires it" in result.stdout + result.stderr


def test_sdist_contains_the_built_panel(built_project: Path, tmp_path: Path) -> None:
    """An sdist is installed with the panel without Node, and JupyterLab finds it."""
    result, names = build("sdist", built_project, tmp_path / "out", FABRIC_NB_REQUIRE_LAB="1")
    check("building the sdist", result)
    assert not [name for name in names if "node_modules" in name or "/lib/" in name]
    [sdist] = (tmp_path / "out").iterdir()
    prefix = tmp_path / "there"
    installed = pip_install(str(sdist), prefix, PATH="/nowhere", FABRIC_NB_REQUIRE_LAB="1")
    check("installing the sdist", installed)
    assert panel_under(prefix)
    package = imported_from(prefix).parent
    assert package.is_relative_to(prefix)
    assert not (package / "labextension").exists()


def test_sdist_beside_a_virtual_environment(
    built_project: Path, checkout: Path, tmp_path: Path
) -> None:
    """The sdist contains the panel, even if an environment in the checkout links to it."""
    bundle, digest = Path("fabric_nb", "labextension"), Path("build", "labextension.sha256")
    shutil.copytree(built_project / bundle, checkout / bundle)
    (checkout / digest).parent.mkdir()
    shutil.copy(built_project / digest, checkout / digest)
    linked = checkout / ".venv-3.11" / "share" / "jupyter" / "labextensions"
    linked.mkdir(parents=True)
    (linked / "fabric-nb").symlink_to(checkout / bundle, target_is_directory=True)
    result, names = build("sdist", checkout, tmp_path / "out", FABRIC_NB_REQUIRE_LAB="1")
    check("building the sdist", result)
    assert [name for name in names if "/fabric_nb/labextension/static/remoteEntry." in name]


def test_from_git_without_node(repository: str, tmp_path: Path) -> None:
    """Without Node an installation from git has no panel, and the output of pip has the reason."""
    only_git = tmp_path / "bin"
    only_git.mkdir()
    (only_git / "git").symlink_to(str(shutil.which("git")))
    prefix = tmp_path / "there"
    installed = pip_install(repository, prefix, PATH=str(only_git), FABRIC_NB_REQUIRE_LAB="")
    check("installing it from git", installed)
    said = installed.stdout + installed.stderr
    assert "Node is missing" in said
    assert "fabric_nb/labextension has no bundle" in said
    assert imported_from(prefix).is_relative_to(prefix)
    assert (prefix / "bin" / "fabric-nb").exists()
    assert not panel_under(prefix)


def test_from_git_with_node(repository: str, tmp_path: Path) -> None:
    """With Node an installation from git builds the panel, and JupyterLab finds it.

    The only test that builds it anew: half a minute.
    """
    prefix = tmp_path / "there"
    installed = pip_install(repository, prefix, FABRIC_NB_REQUIRE_LAB="1")
    check("installing it from git", installed)
    assert panel_under(prefix)
    assert imported_from(prefix).is_relative_to(prefix)


def test_lock_file_has_no_addresses() -> None:
    """The lock file of the panel has versions and checksums, but no addresses."""
    lock = (PROJECT / "labextension" / "yarn.lock").read_text()
    assert "checksum:" in lock
    assert "://" not in lock


def test_version_of_the_panel() -> None:
    """JupyterLab lists the panel with the version of fabric_nb."""
    package = json.loads((PROJECT / "labextension" / "package.json").read_text())
    assert package["version"] == fabric_nb.__version__
