"""Proxies: remote services as objects."""

from __future__ import annotations

import ast
import inspect
import warnings
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    Coroutine,
    Generator,
    Iterable,
    Mapping,
)
from functools import partial
from typing import TYPE_CHECKING, Any

from fabric_nb.errors import InvalidName
from fabric_nb.fabric.core.timeouts import time_limit
from fabric_nb.fabric.core.waiting import named, wait_for
from fabric_nb.fabric.discovery.services import Service
from fabric_nb.fabric.rpc.client import RpcClient
from fabric_nb.fabric.rpc.map_calls import DEFAULT_IN_FLIGHT, MapOptions, OnError
from fabric_nb.fabric.rpc.map_rows import row_source
from fabric_nb.fabric.rpc.mapping import MapHandle, Maps
from fabric_nb.fabric.rpc.methods import MAX_TEXT, Verbatim
from fabric_nb.fabric.wire.names import ServicePattern, check_method

if TYPE_CHECKING:
    import pandas as pd


class ServiceProxy:
    """A remote service: its methods are this object's methods.

    Example::

        calc = fabric.service("calc.c1")
        await calc.multiply(x=5, y=7)
        await calc.load()               # fetches docstrings, for help() and ``?``
        calc = await fabric.service("calc.c1")   # does the same

    The only other attribute is `load`, unless the service is known to have a method of that name.

    Args:
        client: client that the calls go over.
        pattern: name of the service.
        version: required version, as in ``>=1.2,<2``.
        timeout: seconds for each call; None for the connector's own.
        idempotent: its methods are safe to run twice.
        cancel_on_timeout: cancel a call whose timeout is over, or let it continue.
        bare: `load` is always the service's method, as in amqp-fabric.
        maps: maps of the member; None: a separate list of them.
    """

    def __init__(
        self,
        client: RpcClient,
        pattern: ServicePattern,
        *,
        version: str | None = None,
        timeout: float | None = None,
        idempotent: bool = False,
        cancel_on_timeout: bool = True,
        bare: bool = False,
        maps: Maps | None = None,
    ) -> None:
        self._bare = bare
        self._maps = maps or Maps(client)
        self._client = client
        self._pattern = pattern
        self._version = version
        time_limit(timeout)  # raises here, not with the first call
        self._timeout = timeout
        self._idempotent = idempotent
        self._cancel_on_timeout = cancel_on_timeout
        self._docs: Mapping[str, Mapping[str, str]] = {}
        self._methods: dict[str, RemoteMethod] = {}

    async def _load(self) -> ServiceProxy:
        self._docs = await self._client.describe(self._pattern)
        self._methods.clear()
        return self

    def __await__(self) -> Generator[Any, None, ServiceProxy]:
        """Fetch the service's signatures and docs, if it has any."""
        return self._load().__await__()

    @property
    def _offers_load(self) -> bool:
        service = self._client.known(self._pattern)
        return not self._bare and (service is None or "load" not in service.methods)

    def __getattr__(self, name: str) -> RemoteMethod:
        if name.startswith("_"):
            raise AttributeError(name)
        if name == "load" and self._offers_load:
            return _Load(self, name)
        method = self._methods.get(name)
        if method is None:
            method = self._methods[name] = RemoteMethod(self, check_method(name))
        return method

    def __dir__(self) -> list[str]:
        service = self._client.known(self._pattern)
        own = ["load"] if self._offers_load else []
        return sorted({*(service.methods if service else ()), *self._docs, *own})

    def __repr__(self) -> str:
        service = self._client.known(self._pattern)
        methods = ", ".join(service.methods) if service else "no keep-alive received yet"
        return f"<Service {self._pattern}: {methods or 'announces no methods'}>"


class RemoteMethod:
    """A method of a remote service; call it with keyword arguments and await the result.

    Example::

        total = await calc.add(numbers=[1, 2])
        prices = df.apply(lambda row: pricing.quote.sync(sku=row.sku), axis=1)  # in a notebook
        prices = await pricing.quote.map(df, in_flight=32)
        async for row in reports.rows.stream(day="2026-11-24"):
            ...

    `timeout`, `version`, `idempotent` and `cancel_on_timeout` are those of the proxy; use
    ``fabric.call(..., timeout=)`` to set them for one call.
    """

    def __init__(self, service: ServiceProxy, name: str) -> None:
        self._service = service
        self.__name__ = name
        self.__qualname__ = f"{service._pattern}.{name}"  # noqa: SLF001 - its own method
        docs = service._docs.get(name, {})  # noqa: SLF001
        self.__doc__ = docs.get("doc") or f"Remote method {self.__qualname__}."
        self._described_signature = docs.get("signature", "")

    @property
    def service(self) -> Service | None:
        """Registry entry of its service; None if it is not known."""
        return self._service._client.known(self._service._pattern)  # noqa: SLF001

    async def description(self) -> Mapping[str, str]:
        """Fetch ``signature`` and ``doc`` from the service; empty if it describes none."""
        described = await self._service._client.describe(self._service._pattern)  # noqa: SLF001
        return described.get(self.__name__, {})

    @property
    def _signature_text(self) -> str:
        if self._described_signature:
            return self._described_signature
        service = self.service
        return service.methods.get(self.__name__, "") if service else ""

    @property
    def __signature__(self) -> inspect.Signature:
        """The remote parameters; annotations and defaults are text, never evaluated."""
        return remote_signature(self._signature_text)

    def __call__(self, /, **kwargs: Any) -> Coroutine[Any, Any, Any]:
        """Call the method; errors are those of `AmqBrokerConnector.call`."""
        service = self._service
        coroutine = service._client.call(  # noqa: SLF001
            service._pattern,  # noqa: SLF001
            self.__name__,
            kwargs,
            timeout=service._timeout,  # noqa: SLF001
            version=service._version,  # noqa: SLF001
            idempotent=service._idempotent,  # noqa: SLF001
            cancel_on_timeout=service._cancel_on_timeout,  # noqa: SLF001
        )
        return named(coroutine, self.__qualname__)

    def sync(self, /, **kwargs: Any) -> Any:
        """Call the method in plain code of a notebook, and return the result.

        It waits as ``%fabric_call`` does, in a cell, in a function that a library calls, in a plain
        function that is served, or in another thread.

        Example::

            orders["price"] = orders.apply(lambda row: pricing.quote.sync(sku=row.sku), axis=1)

        Raises:
            NotInNotebook: the extension is not loaded, as in a program.
            Exception: see `AmqBrokerConnector.call`.
        """
        __tracebackhide__ = True
        name = self.__qualname__
        return wait_for(partial(self, **kwargs), f"{name}.sync(...)", f"{self.__name__}(...)")

    def stream(self, /, **kwargs: Any) -> AsyncGenerator[Any, None]:
        """Call a generator and yield its items; see `AmqBrokerConnector.call_stream`."""
        service = self._service
        return service._client.stream(  # noqa: SLF001
            service._pattern,  # noqa: SLF001
            self.__name__,
            kwargs,
            timeout=service._timeout,  # noqa: SLF001
            version=service._version,  # noqa: SLF001
        )

    def map(
        self,
        rows: pd.DataFrame | Iterable[Any] | AsyncIterable[Any] | None = None,
        /,
        *,
        in_flight: int = DEFAULT_IN_FLIGHT,
        retries: int = 0,
        on_error: OnError = "keep",
        spread: bool = True,
        **kwargs: Any,
    ) -> MapHandle:
        """Call the method for each row; see `AmqBrokerConnector.map`.

        Example::

            prices = await fabric.service("pricing").quote.map(orders, country="DE", in_flight=32)
        """
        service = self._service
        options = MapOptions(
            in_flight=in_flight,
            timeout=service._timeout,  # noqa: SLF001
            version=service._version,  # noqa: SLF001
            idempotent=service._idempotent,  # noqa: SLF001
            cancel_on_timeout=service._cancel_on_timeout,  # noqa: SLF001
            retries=retries,
            on_error=on_error,
            spread=spread,
        )
        return service._maps.start(  # noqa: SLF001
            service._pattern,  # noqa: SLF001
            self.__name__,
            row_source(rows, kwargs),
            options,
        )

    def __repr__(self) -> str:
        return f"<Remote method {self.__qualname__}{self._signature_text}>"


class _Load(RemoteMethod):
    """`load` of a service without such a method: fetches docs, or is called with arguments."""

    def __init__(self, service: ServiceProxy, name: str) -> None:
        super().__init__(service, name)
        self.__doc__ = "Fetch the signatures and docs of the service's methods."

    async def __call__(self, /, **kwargs: Any) -> Any:
        """Return the proxy with signatures and docs."""
        return await super().__call__(**kwargs) if kwargs else await self._service._load()  # noqa: SLF001


def remote_signature(text: str) -> inspect.Signature:
    """Parse a signature; text that is none becomes ``(**kwargs)``.

    The text is parsed, not evaluated: names in it stay names.

    Example:
        >>> remote_signature("(x: float, y=2)")
        <Signature (*, x: float, y=2)>
    """
    try:
        with warnings.catch_warnings():  # a warning about remote text does not concern the user
            warnings.simplefilter("ignore")
            return inspect.Signature(_parameters(text))
    except (SyntaxError, ValueError, InvalidName, RecursionError, MemoryError):
        return inspect.Signature([inspect.Parameter("kwargs", inspect.Parameter.VAR_KEYWORD)])


def _parameters(text: str) -> list[inspect.Parameter]:
    if not text or len(text) > MAX_TEXT:
        raise ValueError(text)
    arguments = ast.parse(f"def _{text}: ...").body[0].args  # type: ignore[attr-defined]
    named = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
    positional = len(arguments.posonlyargs) + len(arguments.args)
    defaults = [None] * (positional - len(arguments.defaults)) + arguments.defaults
    further = [arguments.kwarg.arg] if arguments.kwarg is not None else []
    return [
        inspect.Parameter(
            argument.arg,
            inspect.Parameter.KEYWORD_ONLY,  # the wire has keywords only
            default=Verbatim(ast.unparse(default))
            if default is not None
            else inspect.Parameter.empty,
            annotation=(
                Verbatim(ast.unparse(argument.annotation))
                if argument.annotation is not None
                else inspect.Parameter.empty
            ),
        )
        for argument, default in zip(named, defaults + arguments.kw_defaults, strict=True)
    ] + [inspect.Parameter(name, inspect.Parameter.VAR_KEYWORD) for name in further]
