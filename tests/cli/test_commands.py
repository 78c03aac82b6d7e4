"""The ``fabric-nb`` command, against a broker and a service on amqp-fabric."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import logging
import os
import pty
import re
import signal
import sys
import termios
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass

import pandas as pd
import pytest

import fabric_nb
from fabric_nb import AmqBrokerConnector, AmqpHandler
from fabric_nb.cli import main
from fabric_nb.cli.output import BROKEN_PIPE
from tests.support.fabric import until
from tests.support.peers import Peer
from tests.unit.test_terminal_gate import ALL, harmless

DOMAIN = "my_project"


@dataclass
class Done:
    code: int
    out: str
    err: str


def command(uri: str | None, *arguments: str) -> tuple[list[str], Mapping[str, str]]:
    names = ("AMQP_URL", "SERVICE_DOMAIN")
    environment = {name: value for name, value in os.environ.items() if name not in names}
    if uri is not None:
        environment["AMQP_URL"] = uri
    return [sys.executable, "-m", "fabric_nb.cli", *arguments], environment


async def start(
    uri: str | None,
    *arguments: str,
    stdin: int = asyncio.subprocess.PIPE,
    stdout: int = asyncio.subprocess.PIPE,
) -> asyncio.subprocess.Process:
    line, environment = command(uri, *arguments)
    return await asyncio.create_subprocess_exec(
        *line, env=environment, stdin=stdin, stdout=stdout, stderr=asyncio.subprocess.PIPE
    )


async def run(uri: str | None, *arguments: str, given: str = "") -> Done:
    process = await start(uri, *arguments)
    try:
        async with asyncio.timeout(60):
            out, err = await process.communicate(given.encode())
    finally:
        if process.returncode is None:
            process.kill()
    assert process.returncode is not None
    return Done(process.returncode, out.decode(), err.decode())


@pytest.fixture
async def fabric(rabbitmq_uri: str) -> AmqBrokerConnector:
    connector = AmqBrokerConnector(rabbitmq_uri, DOMAIN, "test", "t", keep_alive_seconds=0.5)
    await connector.open()
    await connector.serve({"greet": lambda name="you": f"hello {name}"}, type="hello", id="h1")
    return connector


@pytest.fixture(autouse=True)
async def closed(fabric: AmqBrokerConnector) -> object:
    yield
    await fabric.close()


async def test_services_are_listed(
    rabbitmq_uri: str, start_peer: Callable[..., Awaitable[Peer]]
) -> None:
    """`fabric-nb services` lists services of both libraries, as a table and as JSON."""
    await start_peer("calc_service", rabbitmq_uri, type="math", id="calc", keep_alive=0.3)
    table = await run(rabbitmq_uri, "services", "--wait", "2")
    assert table.code == 0
    assert "greet" in table.out
    assert "calc" in table.out
    as_json = await run(rabbitmq_uri, "services", "--wait", "2", "--json", "--id", "h1")
    (service,) = json.loads(as_json.out)
    assert (service["type"], service["id"], service["state"]) == ("hello", "h1", "up")


async def test_services_are_printed_as_they_are_heard(
    rabbitmq_uri: str, fabric: AmqBrokerConnector
) -> None:
    """A row is printed when the service announces itself, also if the command still listens."""
    process = await start(rabbitmq_uri, "services", "--wait", "60", "--type", "hello")
    assert process.stdout is not None
    try:
        async with asyncio.timeout(30):
            heading = await process.stdout.readline()
            assert heading.split() == [
                b"domain", b"type", b"id", b"version", b"instances", b"state", b"methods"
            ]  # fmt: skip
            assert (await process.stdout.readline()).split()[1:3] == [b"hello", b"h1"]
            await fabric.serve({"greet": str}, type="hello", id="h2")
            assert (await process.stdout.readline()).split()[1:3] == [b"hello", b"h2"]
        assert process.returncode is None
    finally:
        process.kill()
        await process.communicate()


@pytest.mark.parametrize(
    "arguments",
    [
        ("services", "--wait", "600"),
        ("services", "--watch", "--json"),
        ("call", "h1.count", "--stream"),
        ("stream",),
        ("logs", "--json"),
    ],
    ids=["services", "watch", "items", "stream", "logs"],
)
@pytest.mark.parametrize("prints", [True, False])
async def test_a_pipe_that_is_closed(
    rabbitmq_uri: str, fabric: AmqBrokerConnector, arguments: tuple[str, ...], prints: bool
) -> None:
    """A command ends without a word when the reader of its output leaves, as `head -1` does.

    It does so at its next row, and also if there is none.
    """
    more = asyncio.Event()

    async def count() -> AsyncIterator[int]:
        yield 1
        await more.wait()
        yield 2

    await fabric.servers[0].replace({"count": count, "greet": str})
    handler, log = AmqpHandler(), logging.getLogger("pipe")
    await fabric.init_logging_handler(handler)
    log.addHandler(handler)

    async def publish() -> None:
        while True:
            log.warning("a row")
            await fabric.publish_data({"n": 1})
            await asyncio.sleep(0.1)

    out, end = os.pipe()
    process = await start(rabbitmq_uri, *arguments, stdout=end)
    os.close(end)
    publishing = asyncio.create_task(publish())
    try:
        async with asyncio.timeout(60):
            assert await asyncio.to_thread(os.read, out, 100_000)
            if not prints:
                publishing.cancel()
            os.close(out)
            more.set()
            _, err = await process.communicate()
    finally:
        publishing.cancel()
        log.removeHandler(handler)
    assert (process.returncode, err) == (BROKEN_PIPE, b"")


async def test_members_announce_themselves_on_request(rabbitmq_uri: str) -> None:
    """Without `--wait` the list has members with rare keep-alives, and names the others."""
    async with AmqBrokerConnector(
        rabbitmq_uri, DOMAIN, "rare", "r1", keep_alive_seconds=600, keep_alive_listen=True
    ):
        done = await run(rabbitmq_uri, "services", "--type", "rare")
    assert done.code == 0
    assert done.out.splitlines()[1].split() == [DOMAIN, "rare", "r1", "1", "up"]
    assert "--wait 6" in done.err


async def test_ping(rabbitmq_uri: str, fabric: AmqBrokerConnector) -> None:
    """`fabric-nb ping` prints a row for each instance, also right after it has connected."""
    async with AmqBrokerConnector(
        rabbitmq_uri, DOMAIN, "test", "u", keep_alive_seconds=60
    ) as second:
        await second.serve({"greet": str}, type="hello", id="h1", version="2")
        done = await run(rabbitmq_uri, "ping", "h1")
        assert done.code == 0
        heading, *rows = done.out.splitlines()
        assert " ".join(heading.split()) == "instance host pid version rtt ms clock ms up"
        assert {row.split()[0] for row in rows} == {fabric.instance, second.instance}
        one = await run(rabbitmq_uri, "ping", f"h1@{second.instance[:5]}", "--json")
        (pinged,) = json.loads(one.out)
        assert (pinged["instance"], pinged["version"]) == (second.instance, "2")
        every = await run(rabbitmq_uri, "call", "h1@*.greet", "object=x")
        assert every.code == 1
        results = json.loads(every.out)
        assert results[second.instance] == "x"
        assert "unexpected keyword" in results[fabric.instance]["error"]["message"]
    nothing = await run(rabbitmq_uri, "ping", "nothing", "--timeout", "1")
    assert (nothing.code, nothing.out) == (1, "")


async def test_silent_service_is_explained(
    rabbitmq_uri: str, start_peer: Callable[..., Awaitable[Peer]]
) -> None:
    """A service that is named in full and does not announce itself is found by its exchange."""
    await start_peer("calc_service", rabbitmq_uri, type="math", id="calc", keep_alive=0)
    name = ("--domain", DOMAIN, "--type", "math", "--id")
    silent = await run(rabbitmq_uri, "services", "--wait", "0", *name, "calc")
    assert silent.out.strip() == (
        f"No service was found. The broker has the exchange of {DOMAIN}.math.calc, but no"
        " keep-alive was received."
    )
    unknown = await run(rabbitmq_uri, "services", "--wait", "0", *name, "other")
    assert unknown.out.strip() == "No service was found."


@dataclass
class Terminal:
    """A pseudo-terminal for the standard error of a command, and what was written to it."""

    slave: int
    written: bytearray

    @classmethod
    @contextlib.asynccontextmanager
    async def open(cls) -> AsyncIterator[Terminal]:
        master, slave = pty.openpty()
        termios.tcsetwinsize(slave, (25, 120))
        terminal, loop = cls(slave, bytearray()), asyncio.get_running_loop()
        loop.add_reader(master, lambda: terminal.written.extend(os.read(master, 65536)))
        try:
            yield terminal
        finally:
            loop.remove_reader(master)
            os.close(master)
            os.close(slave)

    @property
    def text(self) -> str:
        return self.written.decode().replace("\r\n", "\n")


async def test_statistics_of_services(rabbitmq_uri: str, fabric: AmqBrokerConnector) -> None:
    """`--stats` shows totals, and rates since a second ago, without waiting for an interval."""
    async with AmqBrokerConnector(
        rabbitmq_uri, DOMAIN, "rare", "r1", keep_alive_seconds=600
    ) as rare:
        await rare.serve({"greet": lambda: "hello"}, id="r2")
        for _ in range(3):
            await fabric.call("rare.r2.greet")
        done = await run(rabbitmq_uri, "services", "--stats", "--id", "r2")
        heading, row = (line.split() for line in done.out.splitlines())
        assert heading == [
            *("domain", "type", "id", "instances", "state"),
            *("calls/s", "errors/s", "p95", "ms", "running", "waiting", "calls", "errors"),
        ]
        assert row[:7] == [DOMAIN, "rare", "r2", "1", "up", "0.00", "0.00"]
        assert row[8:] == ["0", "3", "0"], "running, calls and errors after a duration"
        as_json = await run(rabbitmq_uri, "services", "--stats", "--json", "--type", "rare")
        none, calls = json.loads(as_json.out)
        assert (none["id"], none["calls"], none["calls_s"]) == ("r1", None, None)
        assert (calls["id"], calls["calls"], calls["calls_s"]) == ("r2", 3, 0.0)


async def test_watching_services(rabbitmq_uri: str, fabric: AmqBrokerConnector) -> None:
    """`--watch` prints the rows that change into a pipe, as lines of JSON too, until Ctrl-C."""
    arguments = ("services", "--stats", "--watch", "--id", "h1")
    table = await start(rabbitmq_uri, *arguments)
    lines = await start(rabbitmq_uri, *arguments, "--json")
    assert table.stdout is not None
    assert lines.stdout is not None
    try:
        async with asyncio.timeout(60):
            assert (await table.stdout.readline()).split()[-2:] == [b"calls", b"errors"]
            await table.stdout.readline()
            await lines.stdout.readline()
            await fabric.call("hello.h1.greet")
            while (await table.stdout.readline()).split()[-2:] != [b"1", b"0"]:
                pass
            while json.loads(await lines.stdout.readline())["calls"] != 1:
                pass
            table.send_signal(signal.SIGINT)
            await table.wait()
        assert table.returncode == 130
    finally:
        for process in (table, lines):
            if process.returncode is None:
                process.kill()
            await process.communicate()


async def test_watching_services_on_a_terminal(
    rabbitmq_uri: str, fabric: AmqBrokerConnector
) -> None:
    """On a terminal `--watch` draws the table again in place, cut to the terminal's size."""
    for number in range(30):
        await fabric.serve({"greet": str}, type="hello", id=f"many{number}")
    async with Terminal.open() as terminal:
        line, environment = command(rabbitmq_uri, "services", "--stats", "-w", "--type", "hello")
        process = await asyncio.create_subprocess_exec(
            *line, env=environment, stdout=terminal.slave
        )
        await until(lambda: "… and 9 more" in terminal.text)
        before = terminal.text.count("\x1b[24A")
        await until(lambda: terminal.text.count("\x1b[24A") > before + 1)
        process.send_signal(signal.SIGINT)
        assert await process.wait() == 130
    frame = terminal.text.split("\x1b[24A")[-2]  # the last may have been interrupted
    assert "\x1b[32mup\x1b[0m" in frame
    shown = re.sub(r"\r|\x1b\[\d*[mKJ]", "", frame).splitlines()
    assert len(shown) == 24
    assert shown[0].split()[:3] == ["domain", "type", "id"]
    assert shown[1].split()[:3] == [DOMAIN, "hello", "h1"]
    assert max(map(len, shown)) < 120


async def test_colours_are_for_terminals(rabbitmq_uri: str, fabric: AmqBrokerConnector) -> None:
    """A terminal shows states in colour, unless NO_COLOR is set; a pipe has plain text."""
    line, environment = command(rabbitmq_uri, "services", "--id", "h1", "--wait", "0.5")
    for extra, coloured in (({}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)):
        async with Terminal.open() as terminal:
            process = await asyncio.create_subprocess_exec(
                *line, env={"TERM": "xterm", **environment, **extra}, stdout=terminal.slave
            )
            await until(lambda: "greet" in terminal.text)
            assert await process.wait() == 0
        assert ("\x1b[32mup\x1b[0m" in terminal.text) is coloured
    done = await run(rabbitmq_uri, *line[3:])
    assert "\x1b" not in done.out + done.err


async def test_json_of_services_and_errors(rabbitmq_uri: str, fabric: AmqBrokerConnector) -> None:
    """With `--json` methods are objects, and errors and notes too, on the standard error."""
    listed = await run(rabbitmq_uri, "services", "--id", "h1", "--wait", "1", "--json")
    (service,) = json.loads(listed.out)
    assert {"name": "greet", "signature": "(name='you')"} in service["methods"]
    await fabric.serve({"fail": lambda: {}["beer"]}, type="hello", id="h2")
    failed = await run(rabbitmq_uri, "call", "hello.h2.fail", "--json")
    assert (failed.code, failed.out) == (1, "")
    (line,) = failed.err.splitlines()
    error = json.loads(line)["error"]
    assert (error["type"], error["call"]) == ("builtins.KeyError", f"{DOMAIN}.hello.h2.fail")
    assert [hop["message"] for hop in error["chain"]] == ["KeyError('beer')"]
    assert "in <lambda>" in error["chain"][0]["traceback"]
    unknown = await run(rabbitmq_uri, "call", "nothing.n.do", "--json", "-t", "0.5")
    assert json.loads(unknown.err)["error"]["type"] == "UnknownService"


async def test_remote_traceback(rabbitmq_uri: str, fabric: AmqBrokerConnector) -> None:
    """`call -v` prints where the remote method failed, after the error."""
    await fabric.serve({"fail": lambda: {}["beer"]}, type="hello", id="h2")
    plain = await run(rabbitmq_uri, "call", "hello.h2.fail")
    verbose = await run(rabbitmq_uri, "call", "hello.h2.fail", "-v")
    assert len(plain.err.splitlines()) == 1
    assert verbose.err.startswith(plain.err)
    assert "Remote traceback:\n" in verbose.err
    assert "test_commands.py" in verbose.err


async def test_publish_tells_whether_anybody_listens(
    rabbitmq_uri: str, fabric: AmqBrokerConnector
) -> None:
    """`fabric-nb publish` says whether a queue has received the message."""
    line = ("publish", "msg_type=ALERT", "--data", "1")
    unrouted = await run(rabbitmq_uri, *line)
    assert (unrouted.code, unrouted.out) == (0, "")
    assert unrouted.err.startswith("Published to no queue. No queue of ")
    async with await fabric.stream(msg_type="ALERT"):
        heard = await run(rabbitmq_uri, *line)
        as_json = await run(rabbitmq_uri, *line, "--json")
    assert (heard.out, heard.err) == ("Published to at least one queue.\n", "")
    assert json.loads(as_json.out) == {"routed": True}


async def test_a_long_call_on_a_terminal(rabbitmq_uri: str, fabric: AmqBrokerConnector) -> None:
    """A bar is drawn on the terminal, and remote lines above it; the result is separate."""
    gate = asyncio.Event()

    async def train() -> str:
        print("begun")
        fabric_nb.progress(30, 120, "training")
        await gate.wait()
        return "trained"

    await fabric.serve({"train": train}, type="hello", id="long")
    line, environment = command(rabbitmq_uri, "call", "hello.long.train", "--output", "-t", "60")
    async with Terminal.open() as terminal:
        process = await asyncio.create_subprocess_exec(
            *line, env=environment, stdout=asyncio.subprocess.PIPE, stderr=terminal.slave
        )
        await until(lambda: "begun\n" in terminal.text)
        await until(lambda: "30 of 120 · 25 %" in terminal.text)
        gate.set()
        out, _ = await process.communicate()
        await until(lambda: terminal.text.endswith("\r\x1b[K"))
    assert json.loads(out) == "trained"
    assert f"hello.long.train  {'█' * 6}{'░' * 18}  training · 30 of 120 · 25 %" in terminal.text
    assert process.returncode == 0


async def test_output_of_a_call(rabbitmq_uri: str, fabric: AmqBrokerConnector) -> None:
    """`--output` prints remote lines on the standard error; without it, none are printed."""

    def speak() -> int:
        print("one\x1b[31m")
        print("two")
        return 5

    await fabric.serve({"speak": speak}, type="hello", id="output")
    done = await run(rabbitmq_uri, "call", "hello.output.speak", "--output")
    assert (done.code, done.out, done.err) == (0, "5\n", "one\ufffd[31m\ntwo\n")
    done = await run(rabbitmq_uri, "call", "hello.output.speak")
    assert (done.code, done.out, done.err) == (0, "5\n", "")


async def test_an_interrupted_call(rabbitmq_uri: str, fabric: AmqBrokerConnector) -> None:
    """Ctrl-C cancels the call at its service, says what became of it, and exits with 130."""

    async def wait() -> None:
        await asyncio.Event().wait()

    server = await fabric.serve({"wait": wait}, type="hello", id="wait")
    process = await start(rabbitmq_uri, "call", "hello.wait.wait", "--timeout", "inf")
    await until(lambda: server.stats["wait"].running == 1)
    process.send_signal(signal.SIGINT)
    out, err = await process.communicate()
    assert process.returncode == 130
    assert not out
    (sentence,) = err.decode().splitlines()
    assert sentence.startswith(
        "fabric-nb: my_project.hello.wait.wait was cancelled: it was stopped"
    )
    await until(lambda: server.stats["wait"].cancelled == 1)


@pytest.mark.parametrize(("command", "given"), [("call", ""), ("map", "{}\n")])
async def test_a_call_that_continues_after_its_timeout(
    rabbitmq_uri: str, fabric: AmqBrokerConnector, command: str, given: str
) -> None:
    """With `--no-cancel` a call continues when the command has failed and ended."""
    gate = asyncio.Event()
    server = await fabric.serve({"wait": gate.wait}, type="hello", id="wait")
    line = (command, "hello.wait.wait", "--timeout", "2", "--no-cancel")
    done = await run(rabbitmq_uri, *line, given=given)
    assert done.code == 1
    assert f"; the call continues on wait {fabric.instance}." in done.err
    assert server.stats["wait"].running == 1
    gate.set()
    await until(lambda: server.stats["wait"].calls == 1)
    assert server.stats["wait"].cancelled == 0


async def test_call_prints_the_result(rabbitmq_uri: str) -> None:
    """`fabric-nb call` sends JSON values, or text, and prints the result as JSON."""
    done = await run(rabbitmq_uri, "call", "hello.h1.greet", "name=world")
    assert (done.code, json.loads(done.out)) == (0, "hello world")


async def test_uri_lists_nodes_of_a_cluster(rabbitmq_uri: str) -> None:
    """Of several nodes a command uses the first that is reachable."""
    nodes = rabbitmq_uri.replace("@", "@127.0.0.1:1,")
    done = await run(nodes, "call", "hello.h1.greet")
    assert (done.code, done.err) == (0, "")
    assert json.loads(done.out) == "hello you"


async def test_call_prints_items_as_they_arrive(
    rabbitmq_uri: str, fabric: AmqBrokerConnector
) -> None:
    """`fabric-nb call --stream` prints a line for each item when it arrives."""
    go, ended = asyncio.Event(), asyncio.Event()

    async def rows(n: int | None = None) -> AsyncIterator[object]:
        try:
            yield {"n": n}
            if n is None:
                await go.wait()
            for i in itertools.count():
                yield i
        finally:
            ended.set()

    await fabric.serve({"rows": rows}, type="rows", id="r1")
    process = await start(rabbitmq_uri, "call", "rows.r1.rows", "--stream", "--count", "4")
    assert process.stdout is not None
    async with asyncio.timeout(60):
        assert json.loads(await process.stdout.readline()) == {"n": None}
        go.set()
        out, _ = await process.communicate()
        assert out.split() == [b"0", b"1", b"2"]
        await ended.wait()
    assert process.returncode == 0


async def test_doctor_prints_text_and_json(
    rabbitmq_uri: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """`fabric-nb doctor` prints its findings, also as JSON; the exit code is 0 without an error."""

    async def doctor(*arguments: str) -> Done:
        line = ["doctor", "--uri", rabbitmq_uri, "--wait", "0.5", *arguments]
        code = await asyncio.to_thread(main, line)
        return Done(code, *capsys.readouterr())

    table = await doctor("--subscriber", "orders")
    assert table.code == 0
    assert "'orders' has no subscriber" in table.out
    assert "2 members" in table.out
    as_json = await doctor("--domain", "other", "--json")
    diagnosis = json.loads(as_json.out)
    assert (as_json.code, diagnosis["worst"]) == (0, "warning")
    peers = next(each for each in diagnosis["findings"] if each["check"] == "peers")
    assert peers["severity"] == "warning"
    assert DOMAIN in peers["found"]
    assert peers["advice"]


async def test_doctor_reports_a_failed_connection(capsys: pytest.CaptureFixture[str]) -> None:
    """`fabric-nb doctor` prints why it cannot connect, without the password, and exits with 1."""
    line = ["doctor", "--uri", "amqp://u:secret@127.0.0.1:1/"]
    assert await asyncio.to_thread(main, line) == 1
    out, err = capsys.readouterr()
    assert "nothing listens on 127.0.0.1:1" in out
    assert "->" in out
    assert "secret" not in out + err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["call", "hello.h1.nope"], "nope"),
        (["call", "hello.h1.greet", "name"], "name=value"),
        (["call", "greet"], "write id.method"),
        (["publish", "--data", " "], "no data"),
        (["logs", "--level", "LOUD"], "not a log level"),
        (["services", "--uri", "amqp://u:secret@127.0.0.1:1/"], "cannot be reached"),
        (["services", "--uri", "http://u:secret@h/"], "not AMQP"),
    ],
)
async def test_errors_are_one_sentence(
    rabbitmq_uri: str, arguments: list[str], message: str
) -> None:
    """An error is one line on stderr, without password or traceback; the exit code is 1."""
    done = await run(rabbitmq_uri, *arguments)
    assert done.code == 1
    assert message in done.err
    assert len(done.err.strip().splitlines()) == 1
    assert "secret" not in done.err
    assert done.out == ""


async def test_stream_prints_rows_and_publish_sends_them(
    rabbitmq_uri: str, fabric: AmqBrokerConnector
) -> None:
    """`fabric-nb stream` prints each row that `fabric-nb publish` sends, and ends at --count."""
    reader = await start(rabbitmq_uri, "stream", "--count", "3", "kind=X")
    assert reader.stdout is not None
    publish = asyncio.create_task(_until_read(fabric))
    assert json.loads(await reader.stdout.readline())["n"] == 0
    publish.cancel()
    sent = await run(rabbitmq_uri, "publish", "kind=X", "--data", "-", given='[{"m":1},{"m":2}]')
    assert sent.code == 0
    async with asyncio.timeout(60):
        rest = (await reader.communicate())[0].decode().splitlines()
    assert len(rest) == 2
    assert reader.returncode == 0


async def _until_read(fabric: AmqBrokerConnector) -> None:
    while True:
        await fabric.publish_data({"n": 0}, {"kind": "X"})
        await asyncio.sleep(0.5)


async def test_missing_broker_names_the_option(tmp_path: object) -> None:
    """Without a URI and an embedded broker the error names the missing option."""
    line, environment = command(None, "services")
    process = await asyncio.create_subprocess_exec(
        *line,
        env={**environment, "FABRIC_NB_RUNTIME_DIR": str(tmp_path)},
        stderr=asyncio.subprocess.PIPE,
    )
    _, err = await process.communicate()
    assert process.returncode == 1
    assert b"--uri" in err


async def test_empty_domain_names_other_domains(rabbitmq_uri: str) -> None:
    """Calls, and streams and logs that receive nothing, print the other domains."""
    others = "Also on this broker: my_project (2 services): `--domain my_project`."

    async def first_line(command: str) -> str:
        process = await start(rabbitmq_uri, command, "--domain", "nowhere")
        try:
            async with asyncio.timeout(60):
                assert process.stderr is not None
                return (await process.stderr.readline()).decode().strip()
        finally:
            process.kill()
            await process.communicate()

    call, found, stream, logs = await asyncio.gather(
        run(rabbitmq_uri, "call", "h1.greet", "--domain", "nowhere"),
        run(rabbitmq_uri, "services", "--wait", "2", "--domain", "nowhere"),
        first_line("stream"),
        first_line("logs"),
    )
    assert call.code != 0
    assert others in call.err
    assert found.out.strip() == f"No service was found. {others}"
    assert stream == logs == f"Nothing was received from nowhere yet. {others}"


async def test_remote_text_is_sanitized(rabbitmq_uri: str, fabric: AmqBrokerConnector) -> None:
    """Every command prints remote text without characters that control a terminal."""

    def fail() -> None:
        raise ValueError(ALL)

    whole = ALL.replace("\udc9b", "")  # pandas keeps text as UTF-8
    functions = {
        "value": lambda: {ALL: ALL},
        "table": lambda: pd.DataFrame({whole: [whole + "\nforged"]}),
        "fail": fail,
    }
    await fabric.serve(functions, type="evil", id="e1")
    value = await run(rabbitmq_uri, "call", "e1.value")
    assert json.loads(value.out) == {ALL: ALL}
    assert value.out.isascii()
    table = await run(rabbitmq_uri, "call", "e1.table")
    failed = await run(rabbitmq_uri, "call", "e1.fail")
    assert failed.code == 1
    handler = AmqpHandler()
    await fabric.init_logging_handler(handler)
    readers = [
        await start(rabbitmq_uri, "logs", "--count", "1", *options) for options in ([], ["--json"])
    ]
    rows = await start(rabbitmq_uri, "stream", "--count", "1")

    async def send() -> None:
        while True:
            record = {"msg": f"{ALL}\n12:00:00 ERROR app.bank forged", "levelno": 20, "name": ALL}
            handler.handle(logging.makeLogRecord(record))
            await fabric.publish_data({ALL: ALL})
            await asyncio.sleep(0.1)

    sending = asyncio.create_task(send())
    async with asyncio.timeout(60):
        logs, records, printed = [
            (await each.communicate())[0].decode() for each in (*readers, rows)
        ]
    sending.cancel()
    for text in (value.out, table.out, failed.err, logs, records, printed):
        assert harmless(text), text
    assert "forged" in table.out
    assert not any(line.startswith(("forged", "12:00:00 ERROR")) for line in table.out.splitlines())
    assert "    12:00:00 ERROR app.bank forged" in logs.splitlines()[1]
    assert json.loads(records)["message"].startswith("a")
    assert json.loads(printed) == {ALL: ALL}
