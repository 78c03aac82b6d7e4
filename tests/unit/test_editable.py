"""Editable installation, without the JupyterLab panel."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

PROJECT = Path(__file__).parents[2]
EDITABLE = "import sys; from hatchling.build import build_editable; build_editable(sys.argv[1])"
"""Call that pip makes to the build backend, here without build isolation."""


def test_editable_without_node_where_the_panel_is_required(tmp_path: Path) -> None:
    """`pip install -e` works without Node, even with `FABRIC_NB_REQUIRE_LAB=1`."""
    source = tmp_path / "source"
    for name in ("pyproject.toml", "hatch_lab.py", "README.md", "LICENSE"):
        source.mkdir(exist_ok=True)
        shutil.copy(PROJECT / name, source)
    left_out = shutil.ignore_patterns("__pycache__", "labextension")
    shutil.copytree(PROJECT / "fabric_nb", source / "fabric_nb", ignore=left_out)
    left_out = shutil.ignore_patterns("node_modules", "lib", "lib-test")
    shutil.copytree(PROJECT / "labextension", source / "labextension", ignore=left_out)
    with (source / "pyproject.toml").open("a") as settings:
        # As found by itself, but without a further package to find it with.
        settings.write('\n[tool.hatch.build]\ndev-mode-dirs = ["."]\n')
    result = subprocess.run(
        [sys.executable, "-c", EDITABLE, str(tmp_path)],
        cwd=source,
        env={**os.environ, "PATH": "/nowhere", "FABRIC_NB_REQUIRE_LAB": "1"},
        text=True,
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    with zipfile.ZipFile(next(tmp_path.glob("*.whl"))) as wheel:
        names = wheel.namelist()
        links = [wheel.read(name).decode() for name in names if name.endswith(".pth")]
    assert [Path(link.strip()) for link in links] == [source]
    assert not [name for name in names if "labextensions" in name]
