"""References of the documents to files, headings, commands, options and magics."""

from __future__ import annotations

import argparse
import ast
import contextlib
import importlib
import importlib.util
import io
import json
import re
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest
from IPython.core.inputtransformer2 import TransformerManager

from fabric_nb.cli.parser import command_parser
from fabric_nb.notebook.magics import FabricMagics

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted(
    [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "notebooks").glob("*.ipynb")]
)
HOW_TO = ROOT / "docs" / "how-to"
COPIES = ROOT / "docs" / "tutorial"
"""Folder into which a build of the manual copies the notebooks; not part of the repository."""

FENCED = re.compile(r"^( *)```([^\n]*)\n(.*?)^\1```", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"`([^`]+)`")
LINK = re.compile(r"\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ +(.+)$", re.MULTILINE)
VARIABLE = re.compile(r'"((?:AMQP|SERVICE|FABRIC_NB|DATA_EXCHANGE|DISCOVERY_EXCHANGE)_[A-Z_]+)"')
TARGET = re.compile(r"^([\w-]+):", re.MULTILINE)
PLACE = re.compile(r"(?<![\w/.-])(?:tests|docs|notebooks|benchmarks|fabric_nb|binder)/[\w./-]*")

each_document = pytest.mark.parametrize(
    "path", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix()
)


def text_of(path: Path) -> str:
    """Return the text of a document; of a notebook, its markdown cells."""
    text = path.read_text(encoding="utf-8")
    if path.suffix != ".ipynb":
        return text
    cells = json.loads(text)["cells"]
    return "\n\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")


def prose_of(path: Path) -> str:
    """Return the text of a document without code."""
    return INLINE.sub("", FENCED.sub("", text_of(path)))


def code_of(path: Path) -> Iterator[str]:
    """Yield each line of code without comments, and each inline code."""
    text = text_of(path)
    for _, _, block in FENCED.findall(text):
        for line in block.replace("\\\n", " ").splitlines():
            yield re.sub(r"(^|\s+)#.*", "", line)
    yield from INLINE.findall(FENCED.sub("", text))


def anchors_of(path: Path) -> set[str]:
    """Return the anchors of a document's headings."""
    headings = HEADING.findall(FENCED.sub("", text_of(path)))
    return {
        re.sub(r"[^\w\- ]", "", heading).strip().lower().replace(" ", "-") for heading in headings
    }


@each_document
def test_links_resolve(path: Path) -> None:
    """Every link between documents has an existing file and heading as its target."""
    for link in LINK.findall(prose_of(path)):
        if re.match(r"\w+:", link):
            continue
        place, _, anchor = link.partition("#")
        target = (path.parent / place).resolve() if place else path
        assert target.is_file(), f"{link}: no such file"
        assert target.parent != COPIES or target.suffix == ".md", f"{link} is not in a clone"
        assert not anchor or anchor in anchors_of(target), f"{link}: no such heading"


@each_document
def test_referenced_files_exist(path: Path) -> None:
    """Every file and folder of the repository in code exists."""
    for place in PLACE.findall("\n".join(code_of(path))):
        assert (ROOT / place).exists(), place


@each_document
def test_targets_and_modules_exist(path: Path) -> None:
    """Each target of `make` and each module of `python -m` exists."""
    targets = re.findall(
        r"^([\w-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE
    )
    for line in code_of(path):
        if command := re.match(r"\s*(?:\$ )?make((?: +[\w-]+\b(?!=))*)", line):
            assert set(command[1].split()) <= set(targets), line
        for module in re.findall(r"python3? -m ([\w.]+)", line):
            assert importlib.util.find_spec(module), line


@each_document
def test_commands_and_their_options_exist(path: Path) -> None:
    """Each command of `fabric-nb` exists, with its options."""
    commands = {name: _options_in(text) for name, text in _commands().items()}
    for line in code_of(path):
        for given in re.findall(r"(?:^|[\s(/])(?:fabric-nb|jupyter fabric) ([^)|>]+)", line):
            if line.lstrip().startswith(("pip ", "RUN pip ")):
                continue
            name, *words = given.split()
            assert name in commands or name == "--version", line
            for option in (word.partition("=")[0] for word in words if word.startswith("-")):
                assert option in commands[name], line


@each_document
def test_magics_and_their_options_exist(path: Path) -> None:
    """Each magic exists, with its options."""
    for line in code_of(path):
        for sign, name, given in re.findall(r"(%{1,2})(fabric\w*)([^%]*)", line):
            known = FabricMagics.magics["line" if sign == "%" else "cell"]
            assert name in known, line
            options = _options_in(getattr(FabricMagics, known[name]).parser.format_help())
            for word in given.partition(" -- ")[0].split():
                if re.match(r"--?[a-z]", word):
                    assert word.partition("=")[0] in options, line


@each_document
def test_python_blocks_are_valid(path: Path) -> None:
    """Each block of Python, with or without magics, is valid, and its imports exist."""
    for _, language, block in FENCED.findall(text_of(path)):
        if language.split("{")[0].strip() not in ("python", "ipython"):
            continue
        code = TransformerManager().transform_cell(textwrap.dedent(block))
        for part in ast.walk(ast.parse(code)):
            if isinstance(part, ast.ImportFrom) and (part.module or "").startswith("fabric_nb"):
                module = importlib.import_module(str(part.module))
                assert all(hasattr(module, name.name) for name in part.names), block


def test_environment_variables_are_documented() -> None:
    """Every environment variable that fabric_nb reads is in the reference."""
    reference = (ROOT / "docs" / "reference" / "settings.md").read_text(encoding="utf-8")
    code = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "fabric_nb").rglob("*.py"))
    read = set(VARIABLE.findall(code))
    assert {"AMQP_URL", "SERVICE_ID", "FABRIC_NB_RUNTIME_DIR"} <= read
    assert {name for name in read if f"`{name}`" not in reference} == set()


def test_example_of_a_service_test_passes(tmp_path: Path) -> None:
    """The manual's example of a service's test passes."""
    (test,), (program,) = (
        [block for _, language, block in FENCED.findall(text_of(path)) if language == "python"]
        for path in (HOW_TO / "testing.md", HOW_TO / "program.md")
    )
    service, _, _ = program.partition("async def main")
    (tmp_path / "shop.py").write_text(service)
    (tmp_path / "test_shop.py").write_text(test)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "--rootdir", str(tmp_path)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 passed" in done.stdout


def _commands() -> dict[str, str]:
    """Return the help text of each command."""
    names = re.findall(r"^    (\w+)(?: |$)", command_parser().format_help(), flags=re.MULTILINE)
    return {name: _help_of(command_parser(), name) for name in names}


def _help_of(parser: argparse.ArgumentParser, command: str) -> str:
    text = io.StringIO()
    with contextlib.redirect_stdout(text), contextlib.suppress(SystemExit):
        parser.parse_args([command, "--help"])
    return text.getvalue()


def _options_in(text: str) -> set[str]:
    """Return the options that a help text lists."""
    listed = re.findall(r"^ +(-.*?)(?:  |$)", text, flags=re.MULTILINE)
    return set(re.findall(r"(?<![\w-])--?[a-z][\w-]*", " ".join(listed)))
