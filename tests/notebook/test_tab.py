"""Tab and Shift-Tab in magics, in a real kernel, for services on both libraries."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Literal

import pytest
import pytest_asyncio

from fabric_nb import AmqBrokerConnector
from tests.notebook.notebooks import Notebook
from tests.support.cells import Cell, plain
from tests.support.peers import DOMAIN, needs_amqp_fabric

if TYPE_CHECKING:
    from tests.notebook.notebooks import StartNotebook


class Reports:
    """A service for the notebook."""

    def make(self, day: str, *, pages: int = 10) -> str:
        """Make the report of a day."""
        return f"{day}: {pages}"

    def format(
        self, *, pages: int = 10, kind: Literal["pdf", "web"] | None = "pdf", day: str
    ) -> None:
        """Choose a format."""

    def month_end(self) -> None:
        """Close the books."""


@pytest_asyncio.fixture(scope="module", loop_scope="session", autouse=True)
async def reports(uri: str, notebook: Notebook) -> AsyncIterator[AmqBrokerConnector]:
    """`office.reports`, on fabric_nb, known to the notebook, which has called `calc1` once."""
    async with AmqBrokerConnector(
        uri, DOMAIN, "office", "reports", keep_alive_seconds=0.5, service_version="1.2"
    ) as fabric:
        await fabric.rpc_register(Reports())
        await notebook.run(
            "import asyncio\n"
            "while 'make' not in ' '.join(fabric.registry.df['methods']):\n"
            "    await asyncio.sleep(0.1)\n"
            "%fabric_call calc1.multiply x=2 y=3"
        )
        yield fabric


@pytest_asyncio.fixture(loop_scope="session", params=[True, False], ids=["jedi", "no jedi"])
async def jedi(request: pytest.FixtureRequest, notebook: Notebook) -> bool:
    """Enable or disable jedi in IPython."""
    await notebook.run(f"%config IPCompleter.use_jedi = {request.param}")
    return bool(request.param)


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        (
            "%fabric_call rep",
            ["reports.format", "reports.health_check", "reports.make", "reports.month_end"],
        ),
        ("v = %fabric_call reports.mo", ["reports.month_end"]),
        ("%fabric_call office.reports.ma", ["office.reports.make"]),
        (f"%fabric_call {DOMAIN}.office.reports.ma", [f"{DOMAIN}.office.reports.make"]),
        ("%fabric_call reports.make ", ["day=", "pages="]),
        ("%fabric_call --timeout 2.5 reports.make d", ["day="]),
        ("%fabric_call reports.make day='x' ", ["pages="]),
        ("%%fabric_call reports.ma", ["reports.make"]),
        ("%fabric_call --ti", ["--timeout"]),
        ("%fabric_call reports.make --idem", ["--idempotent"]),
        ("%fabric_call reports.make --no-c", ["--no-cancel"]),
        ("%fabric_map reports.make --no-c", ["--no-cancel"]),
        ("%fabric_stream --max", ["--max-rows"]),
        ("%fabric_stream --plot total --how me", ["mean", "median"]),
        ("%fabric_stream --kind b", ["bar"]),
        ("%fabric_stream service_id=rep", ["service_id=reports"]),
        ("%fabric_logs --level W", ["WARNING"]),
        ("%fabric_logs --service rep", ["reports"]),
        ("%fabric_logs --lev", ["--level"]),
        ("%time %fabric_call reports.ma", ["reports.make"]),
        ("%time v = %fabric_call reports.ma", ["reports.make"]),
        ("%fabric_ping repo", ["reports"]),
        ("!fabric-nb call reports.ma", ["reports.make"]),
        ("%fabric_call reports.format ", ["day=", "pages=", "kind="]),
        ("%fabric_call reports.format kind=", ["kind='pdf'", "kind='web'", "kind=None"]),
        ("%fabric_call reports.format kind='w", ["kind='web'"]),
        ("await fabric.call('reports.ma", ["reports.make"]),
        ('x = fabric.map("office.reports.ma', ["office.reports.make"]),
        ("await fabric.ping('rep", ["reports"]),
        ("fabric.service('reports').mo", ["month_end"]),
    ],
)
@pytest.mark.usefixtures("jedi")
async def test_tab_completion(notebook: Notebook, line: str, offered: list[str]) -> None:
    """Services, methods, arguments and options are completed where each is valid."""
    completion = await notebook.complete(line)
    assert completion.matches == offered
    assert line[: completion.start].endswith((" ", "\t", "'", '"', "."))
    assert completion.end == len(line)


@pytest.mark.usefixtures("jedi")
async def test_tab_completes_keywords_in_python(notebook: Notebook) -> None:
    """In a call of Python over several lines, the keywords that are missing are offered."""
    line = "await fabric.call(\n    'reports.format',\n    pages=1,\n    "
    offered = (await notebook.complete(line)).matches
    assert {"day=", "kind="} <= set(offered)
    assert "pages=" not in offered
    values = (await notebook.complete(f"{line}kind=")).matches
    assert values == ["kind='pdf'", "kind='web'", "kind=None"]
    elsewhere = (await notebook.complete("str.join('reports.format', da")).matches
    assert "day=" not in elsewhere


async def test_tab_completes_instances(notebook: Notebook, reports: AmqBrokerConnector) -> None:
    """After `@`, the instances of a service are completed, and `*` for all of them."""
    completion = await notebook.complete("%fabric_call reports@")
    ids = {match.partition("@")[2].partition(".")[0] for match in completion.matches}
    assert ids == {reports.instance, "*"}
    line = f"%fabric_call reports@{reports.instance[:3]}"
    assert f"reports@{reports.instance}.make" in (await notebook.complete(line)).matches
    line = f"%fabric_call reports@{reports.instance}.make "
    assert (await notebook.complete(line)).matches == ["day=", "pages="]


async def test_tab_completes_own_services_and_streams(notebook: Notebook) -> None:
    """`%fabric_stop` completes services of this notebook and variables of streams."""
    await notebook.run("%%fabric_serve --id desk\ndef mine(): ...")
    await notebook.run("ticks = %fabric_stream msg_type=TICK")
    assert (await notebook.complete("%fabric_stop d")).matches == ["desk"]
    assert (await notebook.complete("%fabric_stop ti")).matches == ["ticks"]
    assert (await notebook.complete("%fabric_stop notebook.")).matches == ["notebook.desk"]
    assert (await notebook.complete("%fabric ser")).matches == ["services", "serving"]
    assert (await notebook.complete("%fabric calls ti")).matches == ["ticks"]
    await notebook.run("%fabric_stop desk\n%fabric_stop ticks")


@needs_amqp_fabric
async def test_methods_that_replied_are_completed(notebook: Notebook) -> None:
    """For a service of amqp-fabric, methods that have replied are completed."""
    assert (await notebook.complete("%fabric_call calc1.")).matches == ["calc1.multiply"]


async def test_other_lines_are_completed_by_ipython(notebook: Notebook) -> None:
    """Completion of Python and of other magics is not changed."""
    await notebook.run("reporting = 1")
    assert (await notebook.complete("repor")).matches == ["reporting"]
    assert "%timeit" in (await notebook.complete("%timei")).matches


async def test_options_complete_without_a_connection(start_notebook: StartNotebook) -> None:
    """Without a connection, options are completed."""
    alone = await start_notebook()
    assert (await alone.complete("%fabric_connect --do")).matches == ["--domain"]
    assert "reports.make" not in (await alone.complete("%fabric_call reports.m")).matches


async def test_shift_tab_shows_the_remote_method(notebook: Notebook) -> None:
    """Help on a called method shows signature and doc; help on arguments is not changed."""
    line = "total = %fabric_call reports.make day=str(5)"
    for place in (line.index("make"), line.index("reports") + 1, len("total = %fabric_call ")):
        shown = await notebook.inspect(line, place)
        assert "Signature: make(day: str, *, pages: int = 10) -> str" in shown
        assert "Make the report of a day." in shown
        assert f"{DOMAIN}.office.reports" in shown
    assert "Make the report" not in await notebook.inspect(line, line.index("str(") + 4)
    assert "Call a remote method" in await notebook.inspect("%fabric_call", 5)
    assert await notebook.inspect("%fabric_call reports.nothing", 20) == ""
    # For amqp-fabric only the service is known.
    assert "my_project.calc.calc1" in await notebook.inspect("%fabric_call calc1.multiply", 20)


def paged(cell: Cell) -> str:
    """Return the text in the front end's pager."""
    payload = cell.reply["payload"]
    pages = [each["data"]["text/plain"] for each in payload if each["source"] == "page"]
    return plain("".join(pages))


async def test_a_proxy_shows_the_remote_method(notebook: Notebook) -> None:
    """`fabric.service("…").method?` shows signature and doc, and Tab completes methods."""
    await notebook.run("office = fabric.service('reports')")
    # With a prefix or not: jedi has a time limit, after which IPython completes.
    matches = (await notebook.complete("office.m")).matches
    assert {match.rpartition(".")[2] for match in matches} >= {"make", "month_end"}
    shown = [paged(await notebook.run("fabric.service('reports').make?"))]
    shown.append(paged(await notebook.run("office.make?")))
    shown.append(await notebook.inspect("office.make", len("office.make")))
    for text in shown:
        assert "Signature: make(day: str, *, pages: int = 10) -> str" in text
        assert "Make the report of a day." in text
    assert "Make the report" not in paged(await notebook.run("str?"))


async def test_unloading_leaves_the_kernel_as_it_was(start_notebook: StartNotebook) -> None:
    """After unloading, Tab and Shift-Tab are IPython's own."""
    alone = await start_notebook()
    before = await alone.value("get_ipython().kernel.do_inspect.__func__.__qualname__")
    await alone.run("%unload_ext fabric_nb")
    after = await alone.value("get_ipython().kernel.do_inspect.__func__.__qualname__")
    assert "Inspection" in before
    assert "Inspection" not in after
    assert "--domain" not in (await alone.complete("%fabric_connect --do")).matches
