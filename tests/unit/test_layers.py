"""Layers of the packages, public names, and examples in docstrings."""

from __future__ import annotations

import ast
import doctest
import importlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import fabric_nb

PACKAGE = Path(fabric_nb.__file__).parent

LAYERS: list[tuple[str, ...]] = [
    ("errors", "_version"),
    ("libraries",),
    ("frames", "broker", "fabric.core"),
    ("fabric.amqp",),
    ("fabric.wire",),
    ("fabric.discovery", "fabric.data", "fabric.logs", "fabric.tracing"),
    ("fabric.rpc",),
    ("fabric.doctor",),
    ("fabric.member",),
    ("fabric.timeline",),
    ("fabric.connector",),
    ("notebook.capture", "notebook.pages"),
    ("notebook.terminal", "notebook.terminal_line"),
    ("notebook.live",),
    ("notebook.graph",),
    ("notebook.table",),
    ("notebook.views",),
    ("notebook.plot",),
    ("notebook.timeline",),
    ("notebook.connect",),
    ("notebook.panel",),
    ("notebook",),
    ("",),  # the package itself: its public names
    ("cli", "demo"),
]
"""Layers from bottom to top; a part may import lower layers and itself."""

LEVELS = {part: level for level, layer in enumerate(LAYERS) for part in layer}
BARE_PACKAGES = {"fabric"}
"""Packages that only contain others and import nothing."""

VIEWS = {
    "notebook.live",
    "notebook.pages",
    "notebook.plot",
    "notebook.table",
    "notebook.timeline",
    "notebook.views",
}
AMQP_LIBRARIES = {"aio_pika", "aiormq"}


PANDAS = ("frames", "fabric.data.stream", "fabric.wire.tables", "fabric.wire.arrow_tables")
HEAVY_LIBRARIES: dict[str, tuple[str, ...]] = {
    "pandas": (*PANDAS, "notebook.plot", "demo"),
    "numpy": (*PANDAS, "fabric.data.arrivals", "fabric.wire.array_values", "notebook.plot"),
    "pyarrow": (),
    "matplotlib": (),
    "rich": (),
    "IPython": ("notebook",),
    "ipykernel": (),
    "ipywidgets": ("notebook.live",),
    "anywidget": ("notebook.live",),
    "nbclient": (),
    "nbformat": (),
    "jupyter_client": ("cli.kernels",),
    "jsonschema": (),
}
"""Libraries that are slow to import, and the modules that may import them at their top.

These modules are imported when a DataFrame, a notebook or a view is asked for.
"""
LIGHT = {"frames.rows", "frames.arrow_types", "notebook.options", "notebook.terminal_line"}
"""Modules of these packages that programs without DataFrames and notebooks import."""


def module_name(path: Path) -> str:
    """Return the name of a module, such as `fabric.member`; empty for the package itself."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


SOURCES = {module_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def part_of(module: str) -> str:
    """Return the part that a module belongs to: the longest matching name in `LEVELS`."""
    steps = module.split(".")
    for length in range(len(steps), 0, -1):
        if (part := ".".join(steps[:length])) in LEVELS:
            return part
    return module


def imported(source: str, module: str) -> Iterator[str]:
    """Yield the full name of each import of a module, also inside functions."""
    package = SOURCES.get(module, PACKAGE / "x.py")
    inside = ["fabric_nb", *module.split(".")] if module else ["fabric_nb"]
    if package.name != "__init__.py":
        inside = inside[:-1]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = inside[: len(inside) - node.level + 1] if node.level else []
            origin = ".".join([*base, *([node.module] if node.module else [])])
            yield from (f"{origin}.{alias.name}" for alias in node.names)


def own_module(name: str) -> str | None:
    """Return the module of fabric_nb in an imported name; None for other packages."""
    if name.partition(".")[0] != "fabric_nb":
        return None
    steps = name.split(".")[1:]
    while steps and ".".join(steps) not in SOURCES:
        steps.pop()
    return ".".join(steps)


def violations(module: str, source: str) -> list[str]:
    """Return the violations in the imports of a module."""
    found: list[str] = []
    part = part_of(module)
    for name in imported(source, module):
        target, library = own_module(name), name.partition(".")[0]
        if target is None:
            found += _library_violations(module, part, library)
        elif part == "broker" and target and part_of(target) not in ("broker", "_version"):
            found.append(f"{module} imports {target}, but the broker may not import other parts")
        elif module and part not in LEVELS:
            found.append(f"{module} imports {name} and has no layer: add it to LAYERS")
        elif target and part_of(target) not in LEVELS:
            found.append(f"{module} imports {target}, which has no layer: add it to LAYERS")
        elif module and part != part_of(target) and LEVELS[part_of(target)] >= LEVELS[part]:
            found.append(f"{module} imports upward: {target or 'fabric_nb'}")
        elif part_of(target) == "broker" and module.startswith("fabric"):
            found.append(f"{module} imports the broker")
        elif part in VIEWS and part_of(target) == "fabric.amqp" and not name.endswith(".State"):
            found.append(f"{module} imports AMQP: {name}")
    return found


def _library_violations(module: str, part: str, library: str) -> Iterator[str]:
    if library in sys.stdlib_module_names:
        return
    if part == "errors" or (part == "broker" and library != "pamqp"):
        yield f"{module} imports {library}"
    if library in AMQP_LIBRARIES and part != "fabric.amqp":
        yield f"{module} imports {library}, which only fabric.amqp may"
    if library in ("IPython", "ipykernel", "ipywidgets", "anywidget") and part.startswith("fabric"):
        yield f"{module} imports Jupyter: {library}"


@pytest.mark.parametrize("module", SOURCES)
def test_imports_go_downward(module: str) -> None:
    """No module imports from its own layer or from one above it."""
    assert violations(module, SOURCES[module].read_text()) == []


@pytest.mark.parametrize("module", sorted(set(SOURCES) - {""}))
def test_every_module_has_a_layer(module: str) -> None:
    """Every module belongs to a layer."""
    assert part_of(module) in LEVELS or module in BARE_PACKAGES


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("errors", "import orjson"),
        ("errors", "from fabric_nb._version import __version__"),
        ("frames.buffer", "from fabric_nb.fabric import wire"),
        ("fabric.rpc.client", "from fabric_nb.fabric.member import FabricMember"),
        ("fabric.logs.feed", "from fabric_nb.fabric.discovery import registry"),
        ("fabric.data.stream", "from ..discovery import announcer"),
        ("fabric.wire", "def late():\n    from fabric_nb.fabric.member import FabricMember"),
        ("fabric.amqp.uri", "from ..wire.names import ServiceName"),
        ("fabric.wire.names", "import aiormq.exceptions"),
        ("fabric.member", "import fabric_nb"),
        ("fabric.connector", "from fabric_nb.notebook import bridge"),
        ("fabric.connector", "from fabric_nb.broker.launch import find"),
        ("fabric.connector", "from IPython import get_ipython"),
        ("fabric.discovery.resolver", "from fabric_nb.fabric.rpc.requester import Caller"),
        ("broker.queues", "from fabric_nb.errors import FabricError"),
        ("broker.queues", "import orjson"),
        ("notebook.views.card", "from fabric_nb.fabric.amqp.connection import Connection"),
        ("notebook.views.card", "import aio_pika"),
        ("notebook.table.model", "from fabric_nb.notebook.views.card import ConnectionCard"),
        ("notebook.views.card", "from fabric_nb.notebook.session import Session"),
        ("notebook.magics", "from fabric_nb.demo import services"),
    ],
)
def test_upward_imports_are_found(module: str, source: str) -> None:
    """The check finds upward imports in each form."""
    assert violations(module, source)


# -- heavy libraries


def imported_at_top(source: str, module: str) -> Iterator[str]:
    """Yield the full name of each import that runs when the module is imported."""
    yield from imported(ast.unparse(_WithoutLateImports().visit(ast.parse(source))), module)


class _WithoutLateImports(ast.NodeTransformer):
    """Removes functions, and code for type checkers."""

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        return ast.Pass()

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> ast.AST:
        return ast.Pass()

    def visit_If(self, node: ast.If) -> ast.AST:
        if isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            return ast.Pass()
        return self.generic_visit(node)


def heavy_imports(module: str, source: str) -> list[str]:
    """Return the heavy libraries that a module imports at its top, and may not."""
    return [
        library
        for library in {name.partition(".")[0] for name in imported_at_top(source, module)}
        if library in HEAVY_LIBRARIES
        and (
            module in LIGHT
            or not any(f"{module}.".startswith(f"{part}.") for part in HEAVY_LIBRARIES[library])
        )
    ]


@pytest.mark.parametrize("module", SOURCES)
def test_heavy_libraries_are_imported_late(module: str) -> None:
    """Only modules that are imported for DataFrames or notebooks import their libraries at once."""
    assert heavy_imports(module, SOURCES[module].read_text()) == []


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("fabric.discovery.registry", "import pandas as pd"),
        ("fabric.wire.codec", "from numpy import ndarray"),
        ("frames.rows", "import pandas as pd"),
        ("notebook.options", "from IPython import get_ipython"),
        ("cli.commands", "try:\n    import pandas\nexcept ImportError:\n    pass"),
        ("fabric.data.streams", "class Streams:\n    import pandas"),
    ],
)
def test_early_imports_of_heavy_libraries_are_found(module: str, source: str) -> None:
    """The check finds an import at the top of a module in each form."""
    assert heavy_imports(module, source)


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("fabric.discovery.registry", "def df():\n    import pandas as pd"),
        ("fabric.discovery.registry", "if TYPE_CHECKING:\n    import pandas as pd"),
        ("frames.buffer", "import pandas as pd"),
    ],
)
def test_late_imports_of_heavy_libraries_are_allowed(module: str, source: str) -> None:
    """Functions and type checkers may import them everywhere, and some modules at their top."""
    assert heavy_imports(module, source) == []


# -- public names


def test_public_names() -> None:
    """`__all__` is sorted and complete, and each name in it can be imported."""
    hooks = {"load_ipython_extension", "unload_ipython_extension"}
    assert fabric_nb.__all__ == sorted(fabric_nb.__all__)
    assert not hooks & set(fabric_nb.__all__)
    for name in [*fabric_nb.__all__, *hooks]:
        assert getattr(fabric_nb, name) is not None


def test_unknown_public_name() -> None:
    """An unknown name raises `AttributeError`, as for any module."""
    with pytest.raises(AttributeError, match="Nothing"):
        fabric_nb.Nothing  # noqa: B018


HEAVY = ["pandas", "numpy", "aio_pika", "aiormq", "IPython", "orjson", "yarl"]


@pytest.mark.parametrize(
    ("statement", "not_loaded"),
    [
        ("import fabric_nb", HEAVY),
        ("import fabric_nb.errors", HEAVY),
        ("import fabric_nb.broker.server", HEAVY),
        ("import fabric_nb.fabric.wire.names", HEAVY),
        ("from fabric_nb import FrameBuffer", ["aio_pika", "IPython"]),
        (
            "from fabric_nb import AmqBrokerConnector, AmqpHandler",
            ["pandas", "numpy", "IPython", "ipykernel"],
        ),
        (
            "import fabric_nb.notebook.extension",
            ["aio_pika", "aiormq", "yarl", "ipywidgets", "anywidget"],
        ),
    ],
)
def test_imports_are_light(statement: str, not_loaded: list[str]) -> None:
    """The package loads no AMQP, the connector no pandas or Jupyter, magics no widgets."""
    program = f"import sys; {statement}; print(*sorted(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60
    )
    assert set(not_loaded) & set(done.stdout.split()) == set()


# -- examples


WITH_EXAMPLES = [name for name, path in SOURCES.items() if ">>> " in path.read_text()]


@pytest.mark.parametrize("module", WITH_EXAMPLES)
def test_examples_in_docstrings(module: str) -> None:
    """Examples in docstrings have the documented results."""
    result = doctest.testmod(importlib.import_module(f"fabric_nb.{module}".rstrip(".")))
    assert result.failed == 0
    assert result.attempted > 0
