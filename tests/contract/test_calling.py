"""Calls: names, proxies, versions, timeouts and errors."""

from __future__ import annotations

import asyncio
import inspect

import aio_pika
import pytest

from fabric_nb import AbstractServiceApi
from fabric_nb.errors import (
    AmbiguousService,
    CallError,
    CallTimeout,
    ConnectionLost,
    InvalidName,
    MethodNotFound,
    RemoteError,
    UnknownService,
    VersionMismatch,
)
from fabric_nb.fabric.wire.names import ServicePattern
from tests.support.fabric import until, wait_for_service
from tests.support.peers import DOMAIN

pytestmark = pytest.mark.any_broker  # these are of fabric_nb itself, unless marked otherwise


class Calc(AbstractServiceApi):
    """API of a calculator."""

    def multiply(self, x: float, y: float = 2) -> float:
        """Return x times y."""
        return x * y

    def divide(self, x, y):
        return x / y


@pytest.fixture
async def calc(members):
    """Return a member that serves a calculator as ``app.calc``, version 1.2.3."""
    member = await members.join("calc", service_version="1.2.3")
    await member.rpc_register(Calc())
    return member


@pytest.fixture
async def caller(members, calc):
    """Return a member that knows the calculator."""
    member = await members.join("caller", type="client")
    await wait_for_service(member, "calc", methods=3)
    return member


# -- names


@pytest.mark.every_broker
@pytest.mark.parametrize("name", ["calc", "app.calc", f"{DOMAIN}.app.calc"])
async def test_call_by_name(caller, name):
    """A service is called by its id, by type and id, or by its full name."""
    assert await caller.call(f"{name}.multiply", x=6, y=7) == 42


@pytest.mark.every_broker
async def test_call_before_the_first_keep_alive(members, calc):
    """A call right after opening waits for the keep-alive of the service."""
    fresh = await members.join("fresh")
    assert await fresh.call("calc.multiply", x=6, y=7) == 42


@pytest.mark.every_broker
async def test_full_name_needs_no_listening(members, calc):
    """By full name, or type and id, a service can be called without receiving keep-alives."""
    caller = await members.join("caller", keep_alive_listen=False)
    assert await caller.call(f"{DOMAIN}.app.calc.multiply", x=1) == 2
    assert await caller.call("app.calc.multiply", x=1) == 2
    with pytest.raises(UnknownService, match=r"domain\.type\.id"):
        await caller.call("calc.multiply", x=1)


@pytest.mark.every_broker
async def test_call_across_domains(members, calc):
    """A full name reaches another domain; a short name is looked up in the own domain."""
    stranger = await members.join("stranger", domain="elsewhere")
    assert await stranger.call(f"{DOMAIN}.app.calc.multiply", x=1) == 2
    with pytest.raises(UnknownService):
        await stranger.call("calc.multiply", x=1, timeout=0.3)


@pytest.mark.parametrize(
    "call", ["", "calc", ".multiply", "calc.", "a.b.c.d.e", "calc.mul tiply", 7]
)
async def test_invalid_call(caller, call):
    """An invalid name of a call is an error."""
    with pytest.raises(InvalidName):
        await caller.call(call)


async def test_keywords_of_call_as_arguments(members, caller):
    """`call_service` accepts arguments of any name, including keywords of `call`."""
    other = await members.join("keywords")
    await other.serve({"echo": lambda **kwargs: kwargs})
    pattern = ServicePattern.parse("app.keywords", domain=DOMAIN)
    kwargs = {"timeout": 1, "version": "x", "call": "y", "self": 2}
    assert await caller.call_service(pattern, "echo", kwargs) == kwargs


# -- proxies


async def test_service_proxy(caller):
    """A proxy has the methods of its service, with signatures and, once loaded, docs."""
    calc = caller.service("calc")
    assert await calc.multiply(x=6, y=7) == 42
    assert {"multiply", "divide", "health_check", "load"} <= set(dir(calc))
    assert str(inspect.signature(calc.multiply)) == "(*, x: float, y: float = 2)"
    assert "multiply" in repr(calc)

    assert await calc.load() is calc
    assert inspect.getdoc(calc.multiply) == "Return x times y."
    assert "multiply(" in repr(calc.multiply)
    with pytest.raises(TypeError):
        await calc.multiply(6, 7)


async def test_rpc_proxy_has_the_order_of_amqp_fabric(caller):
    """The arguments of `rpc_proxy` are domain, id and type, as in amqp-fabric."""
    proxy = await caller.rpc_proxy(DOMAIN, "calc", "app")
    assert await proxy.multiply(x=6, y=7) == 42
    with pytest.raises(AttributeError):
        getattr(proxy, "_private")  # noqa: B009 - a name as from a completer


async def test_proxy_of_a_method_named_load(members, caller):
    """A proxy of `rpc_proxy` hides no method of its service."""
    names = ["load", "stream", "service", "version", "timeout", "call", "close", "told", "df"]
    other = await members.join("loader")
    await other.serve({name: (lambda name=name: name) for name in names})
    assert await caller.call("loader.load") == "load"
    bare = await caller.rpc_proxy(DOMAIN, "loader", "app")
    for name in names:
        assert await getattr(bare, name)() == name
    while caller.registry.find("loader") == []:
        await caller.registry.changed()
    proxy = caller.service("loader")
    assert await proxy.load() == "load"
    assert await proxy is proxy
    assert str(inspect.signature(proxy.load)) == "(*, name='load')"
    assert not [name for name in dir(bare) if name not in (*names, "health_check")]


async def test_load_with_arguments(caller):
    """`load` with arguments calls the service's own method of that name."""
    with pytest.raises(UnknownService, match="missing"):
        await caller.service("missing").load(path="x")


# -- versions


async def test_version_that_matches(caller):
    """A call of a service that meets the version requirement succeeds."""
    assert await caller.call("calc.multiply", x=1, version=">=1.2,<2") == 2
    assert await caller.service("calc", version="~=1.2").multiply(x=1) == 2
    assert await caller.call("app.calc.multiply", x=1, version="==1.2.3") == 2


async def test_version_that_does_not_match(caller):
    """The error for another version than required names it."""
    with pytest.raises(VersionMismatch, match=r"is 1\.2\.3, but >=2 is required"):
        await caller.call("calc.multiply", x=1, version=">=2")
    with pytest.raises(VersionMismatch):
        await caller.service(f"{DOMAIN}.app.calc", version=">=2").multiply(x=1)
    with pytest.raises(InvalidName, match="not a version requirement"):
        await caller.call("calc.multiply", x=1, version="newest")


@pytest.mark.parametrize("version", [1.2, ["1.2"], ">>1", b">=1"])
async def test_invalid_version_requirement(caller, version):
    """An invalid version requirement is an error with an example."""
    with pytest.raises(InvalidName, match="not a version requirement: write for example"):
        await caller.call("calc1.echo", value=1, version=version)


async def test_version_of_a_mixed_clique(members, caller):
    """A clique with one instance of a wrong version is refused, as any may receive the call."""
    second = await members.join("calc", service_version="2.0")
    await second.rpc_register(Calc())
    service = await wait_for_service(caller, "calc", instances=2)
    assert service.versions(caller.registry.now) == ["1.2.3", "2.0"]
    with pytest.raises(VersionMismatch, match=r"is 2\.0, but"):
        await caller.call("calc.multiply", x=1, version="<2")
    assert await caller.call("calc.multiply", x=1, version=">=1") == 2

    await second.close()
    await until(lambda: len(service.present(caller.registry.now)) == 1)
    assert await caller.call("calc.multiply", x=1, version="<2") == 2


async def test_service_without_version(members, caller):
    """A service without a version meets no requirement."""
    await (await members.join("plain")).rpc_register(Calc())
    await wait_for_service(caller, "plain", methods=3)
    with pytest.raises(VersionMismatch, match="is unknown, but"):
        await caller.call("plain.multiply", x=1, version=">=0")


# -- services that are missing


async def test_unknown_service(caller):
    """The error for an unknown service names similar ones."""
    with pytest.raises(UnknownService, match="did you mean calc") as caught:
        await caller.call("calk.multiply", x=1, timeout=0.5)
    assert isinstance(caught.value, LookupError)
    async with asyncio.timeout(60):
        with pytest.raises(UnknownService):
            await caller.call(f"{DOMAIN}.app.missing.multiply", timeout=1000)


@pytest.mark.every_broker
async def test_gone_clique_is_unknown_at_once(members, caller):
    """A call of a service that has left fails at once, not after its timeout."""
    leaver = await members.join("leaver")
    await leaver.serve({"work": lambda: 1})
    await wait_for_service(caller, "leaver", methods=2)
    assert await caller.call("leaver.work") == 1
    await leaver.close()

    async with asyncio.timeout(60):
        for _ in range(3):  # the exchange is gone: 404 closes the channel each time
            with pytest.raises(UnknownService):
                await caller.call("app.leaver.work", timeout=1000)
        await until(lambda: not caller.registry.find("leaver", domain=DOMAIN))
        with pytest.raises(UnknownService, match="is gone"):
            await caller.call("app.leaver.work", timeout=1000)
    assert await caller.call("calc.multiply", x=1) == 2


@pytest.mark.every_broker
async def test_returned_message_of_a_gone_clique(members, caller, raw):
    """If the exchange outlives the clique, the call is returned at once too."""
    leaver = await members.join("leaver")
    await leaver.serve({"work": lambda: 1})
    await wait_for_service(caller, "leaver", methods=2)
    # Another binding keeps the exchange, as an amqp-fabric caller does.
    queue = await raw.declare_queue(exclusive=True)
    await queue.bind(leaver.name.api_exchange, "other")
    await leaver.close()

    async with asyncio.timeout(60):
        with pytest.raises(UnknownService):
            await caller.call("app.leaver.work", timeout=1000)


@pytest.mark.every_broker
async def test_service_that_returns(members, caller):
    """A service that left and returned can be called again."""
    for answer in (1, 2, 3):
        leaver = await members.join("leaver")
        await leaver.serve({"work": lambda answer=answer: answer})
        assert await caller.call("app.leaver.work") == answer
        await leaver.close()
        with pytest.raises(UnknownService):
            await caller.call("app.leaver.work")


async def test_method_not_found(caller):
    """The error for an unknown method names similar ones."""
    with pytest.raises(MethodNotFound, match="did you mean multiply") as caught:
        await caller.call("calc.multply", x=1, timeout=20)
    assert caught.value.close_matches == ("multiply",)
    assert isinstance(caught.value, AttributeError)
    with pytest.raises(MethodNotFound, match="it has divide, health_check, multiply"):
        await caller.call("calc.xyz", x=1, timeout=60)


async def test_ambiguous_service(members, caller):
    """An id of two types is an error with both names, and `type.id` is unambiguous."""
    other = await members.join("calc", type="other")
    await other.serve({"multiply": lambda x: -x})
    await wait_for_service(caller, "other.calc", methods=2)
    with pytest.raises(AmbiguousService) as caught:
        await caller.call("calc.multiply", x=1)
    assert caught.value.candidates == (f"{DOMAIN}.app.calc", f"{DOMAIN}.other.calc")
    assert await caller.call("other.calc.multiply", x=1) == -1


async def test_errors_name_the_call(caller):
    """Each error of a call has the name of the call."""
    for call in ("calc.nothing", "app.missing.x"):
        with pytest.raises(CallError) as caught:
            await caller.call(call, timeout=1)
        assert caught.value.call.endswith(call)


# -- timeouts and lost connections


@pytest.mark.every_broker
async def test_timeout_of_a_queued_call(members, caller):
    """A request that is still queued at its timeout fails with `CallTimeout`, and never runs."""
    busy, runs = asyncio.Event(), []

    async def work(n):
        runs.append(n)
        await busy.wait()
        return n

    server = await members.join("worker")
    await server.serve({"work": work})
    first = asyncio.create_task(caller.call("app.worker.work", n=1))
    await until(lambda: runs == [1])

    with pytest.raises(CallTimeout, match=r"my_project\.app\.worker\.work .* within 1 s") as caught:
        await caller.call("app.worker.work", n=2, timeout=1)
    assert caught.value.seconds == 1
    assert isinstance(caught.value, TimeoutError)

    busy.set()
    assert await first == 1
    assert await caller.call("app.worker.work", n=3) == 3
    assert runs == [1, 3]


@pytest.mark.every_broker
async def test_timeout_of_a_running_call(members, caller):
    """A slow call fails with `CallTimeout`, and its late reply is ignored."""
    go = asyncio.Event()
    server = await members.join("worker")
    await server.serve({"work": go.wait})
    with pytest.raises(CallTimeout, match=r"within 0\.3 s"):
        await caller.call("app.worker.work", timeout=0.3)
    go.set()
    assert await caller.call("app.worker.work") is True
    assert caller.member.rpc.pending == 0


async def test_timeout_of_connector_and_proxy(members, calc):
    """The timeout of a call overrides that of the proxy, and that overrides the connector's."""
    hasty = await members.join("hasty", timeout=0.2)
    await calc.serve({"sleep": asyncio.Event().wait}, id="slow")
    with pytest.raises(CallTimeout, match=r"within 0\.2 s"):
        await hasty.call("app.slow.sleep")
    with pytest.raises(CallTimeout, match=r"within 0\.1 s"):
        await hasty.service("app.slow", timeout=0.1).sleep()
    with pytest.raises(CallTimeout, match=r"within 0\.3 s"):
        await hasty.call("app.slow.sleep", timeout=0.3)


@pytest.mark.every_broker
async def test_cancelled_caller_leaves_the_channel_usable(members, caller):
    """The first call to a service that is cancelled at once does not affect the next one."""
    other = await members.join("other")
    for n in range(5):
        await other.serve({"one": lambda: 1}, id=f"other{n}")
        with pytest.raises(CallTimeout):
            await caller.call(f"app.other{n}.one", timeout=0)
        assert await caller.call(f"app.other{n}.one", timeout=60) == 1


@pytest.mark.every_broker
async def test_connection_lost(members, caller, calc):
    """Closing the connector fails an in-flight call with `ConnectionLost` at once."""
    started = asyncio.Event()

    async def hang():
        started.set()
        await asyncio.Event().wait()

    await calc.serve({"hang": hang}, id="hanger")
    call = asyncio.create_task(caller.call("app.hanger.hang"))
    await started.wait()
    await caller.close()
    with pytest.raises(ConnectionLost):
        async with asyncio.timeout(60):
            await call


# -- errors of the service


class Broken(Exception):
    """Error class of the service."""


async def test_error_names_the_whole_timeout(members):
    """The wait for a name counts towards the timeout, and the error names the whole timeout."""
    caller = await members.join("early")
    calling = asyncio.create_task(caller.call("latecomer.slow", timeout=2))
    server = await members.join("host")
    await server.serve({"slow": lambda: asyncio.sleep(60)}, id="latecomer")
    with pytest.raises(CallTimeout, match=r"gave no answer within 2 s\."):
        await calling


def nested():
    raise ZeroDivisionError("deep down")


async def test_remote_error_of_a_builtin_class(caller):
    """A remote built-in error is an instance of that class and of `RemoteError`."""
    with pytest.raises(ZeroDivisionError) as caught:
        await caller.call("calc.divide", x=1, y=0)
    error = caught.value
    assert isinstance(error, RemoteError)
    assert error.type == "builtins.ZeroDivisionError"
    assert error.remote_args == ("division by zero",)
    assert error.message == "ZeroDivisionError('division by zero')"
    assert str(error) == f"{DOMAIN}.app.calc.divide: ZeroDivisionError('division by zero')"
    with pytest.raises(TypeError, match="unexpected keyword"):
        await caller.call("calc.divide", z=1)


async def test_remote_error_of_another_class(members, caller):
    """An error of a class of the service arrives as data."""

    def fail():
        raise Broken("no", 7, {"a": object()})

    other = await members.join("other")
    await other.serve({"fail": fail})
    with pytest.raises(RemoteError) as caught:
        await caller.call("app.other.fail")
    assert type(caught.value) is RemoteError
    assert caught.value.type == f"{__name__}.Broken"
    assert caught.value.remote_args[:2] == ("no", 7)


@pytest.mark.parametrize("threads", [False, True])
async def test_remote_traceback(members, caller, threads):
    """The error has the remote traceback, from the method on, without frames of fabric_nb."""

    def fail():
        nested()

    async def fail_later():
        await asyncio.sleep(0)
        nested()

    other = await members.join("other")
    await other.serve({"fail": fail, "fail_later": fail_later}, threads=threads)
    for method in ("fail", "fail_later"):
        with pytest.raises(ZeroDivisionError) as caught:
            await caller.call(f"app.other.{method}")
        text = caught.value.remote_traceback
        frames = [line for line in text.splitlines() if line.startswith("  File ")]
        assert [frame.rpartition(" in ")[2] for frame in frames] == [method, "nested"]
        assert "fabric_nb/fabric" not in text
        assert text.rstrip().endswith("ZeroDivisionError: deep down")
        shown = "\n".join(caught.value._render_traceback_())
        assert "Remote traceback:" in shown
        assert "fabric_nb/fabric" not in shown


@pytest.mark.parametrize(
    "error",
    [
        SystemExit(3),
        KeyboardInterrupt(),
        asyncio.CancelledError(),
        StopIteration(1),
        GeneratorExit(),
    ],
    ids=lambda error: type(error).__name__,
)
@pytest.mark.parametrize("kind", ["plain", "async", "thread"])
async def test_no_error_of_a_method_stops_the_service(members, caller, error, kind):
    """Exit, interrupt and cancellation reach the caller as errors, and the service continues."""

    def fail():
        raise error

    async def fail_async():
        await asyncio.sleep(0)
        raise error

    other = await members.join("other")
    await other.serve(
        {"fail": fail_async if kind == "async" else fail, "fine": lambda: "fine"},
        threads=kind == "thread",
    )
    for _ in range(2):
        with pytest.raises(RemoteError) as caught:
            await caller.call("app.other.fail", timeout=60)
        assert isinstance(caught.value, Exception)
        assert not isinstance(caught.value, (StopIteration, asyncio.CancelledError))
        if isinstance(error, StopIteration):  # no future holds one: amqp-fabric's callers hung
            assert caught.value.type == "builtins.RuntimeError"
            assert "StopIteration" in str(caught.value)
        else:
            assert caught.value.type.rpartition(".")[2] == type(error).__name__
    assert await caller.call("app.other.fine", timeout=60) == "fine"


async def test_errors_with_a_broken_repr(members, caller):
    """An error with a broken repr, and arguments that are not JSON, still arrives."""

    class Weird(Exception):
        def __repr__(self):
            raise RuntimeError("no repr")

    def fail():
        raise Weird({1, 2}, b"x", float("nan"))

    other = await members.join("other")
    await other.serve({"fail": fail})
    with pytest.raises(RemoteError) as caught:
        await caller.call("app.other.fail", timeout=60)
    assert "Weird" in caught.value.type
    assert caught.value.remote_args[0] == "{1, 2}"


async def test_no_remote_type_is_imported(members, caller, raw):
    """A class named in a reply is data: nothing is imported, and nothing is run."""

    async def answer(message):
        body = b'{"error": {"type": "os.system", "message": "m", "args": ["exit 1"]}}'
        await raw.default_exchange.publish(
            aio_pika.Message(body, type="error", correlation_id=message.correlation_id),
            routing_key=message.reply_to,
        )

    exchange = await raw.declare_exchange(f"{DOMAIN}.api.app.evil", "direct", auto_delete=True)
    name = f"{DOMAIN}.api.app.evil::run"
    queue = await raw.declare_queue(name, durable=True, auto_delete=True)
    await queue.bind(exchange, name)
    await queue.consume(answer, no_ack=True)
    with pytest.raises(RemoteError) as caught:
        await caller.call("app.evil.run", timeout=60)
    assert type(caught.value) is RemoteError
    assert caught.value.type == "os.system"


@pytest.mark.every_broker
async def test_wrong_domain_names_other_domains(members, caller):
    """The error for a service of another domain names that domain, for short and full names."""
    await caller.serve({"one": lambda: 1}, id="mine")
    await members.join("price", domain="shop")
    while not caller.registry.services(domain="shop"):
        await caller.registry.changed()
    for name in ("price.one", f"{DOMAIN}.app.price.one"):
        with pytest.raises(UnknownService, match=r"shop \(1 service\): `--domain shop`"):
            await caller.call(name, timeout=20)
