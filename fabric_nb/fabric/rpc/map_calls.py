"""Calls of a map's rows: their options, retries, and errors that end the map."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from fabric_nb.errors import (
    AmbiguousService,
    InvalidArgument,
    InvalidArgumentType,
    MethodNotFound,
    NotConnected,
    NotSerializable,
    RemoteError,
    UnknownService,
    VersionMismatch,
    WrongLoop,
)
from fabric_nb.fabric.core.backoff import backoff
from fabric_nb.fabric.core.timeouts import time_limit
from fabric_nb.fabric.core.values import shown, whole
from fabric_nb.fabric.rpc.call_report import CallReport
from fabric_nb.fabric.rpc.client import RpcClient
from fabric_nb.fabric.rpc.retry import PATIENCE
from fabric_nb.fabric.wire.names import ServicePattern

DEFAULT_IN_FLIGHT, MAX_IN_FLIGHT = 16, 10_000
"""Rows under way at the same time, each of which has a worker."""
MAX_RETRIES = 1000

OnError = Literal["keep", "raise"]
_NOT_SERVED = (UnknownService, MethodNotFound)
"""Errors of calls that were not run, because no instance serves the method now."""
_NO_ROW_CAN_BE_CALLED = (AmbiguousService, VersionMismatch, NotConnected, WrongLoop)


@dataclass(frozen=True, slots=True, kw_only=True)
class MapOptions:
    """Options of a map.

    Attributes:
        in_flight: rows under way at the same time, up to 10,000.
        timeout: seconds for each row, with its retries for a lost service; None: the connector's
            timeout, infinity: no limit.
        version: version that the service must have, as in ``>=1.2,<2``.
        idempotent: safe to run twice: retry a row whose service or connection is lost.
        cancel_on_timeout: cancel a row whose timeout is over at its service; with False it fails
            likewise, and continues there if it has begun.
        retries: number of further calls of a row that fails, for any reason; for idempotent
            methods only.
        on_error: ``keep`` the error of a row and continue, or ``raise`` the first one.
        spread: the items of a dict result become columns.

    Raises:
        InvalidArgument: an option has an invalid value, or there are `retries` of a method that is
            not idempotent.
        InvalidTimeout: `timeout` is negative, NaN or not a number.
    """

    in_flight: int = DEFAULT_IN_FLIGHT
    timeout: float | None = None
    version: str | None = None
    idempotent: bool = False
    cancel_on_timeout: bool = True
    retries: int = 0
    on_error: OnError = "keep"
    spread: bool = True

    def __post_init__(self) -> None:
        in_flight = whole(self.in_flight, "in_flight", low=1, high=MAX_IN_FLIGHT)
        object.__setattr__(self, "in_flight", in_flight)
        object.__setattr__(self, "retries", whole(self.retries, "retries", low=0, high=MAX_RETRIES))
        time_limit(self.timeout)
        if self.on_error not in get_args(OnError):
            raise InvalidArgument(
                f"on_error={shown(self.on_error)} is not known: write 'keep' or 'raise'."
            )
        if self.retries and not self.idempotent:
            raise InvalidArgument(
                f"retries={self.retries} may run a row more than once: make the map idempotent too"
                " (idempotent=True or --idempotent), if that is safe."
            )


class NoMoreCalls(Exception):
    """No row can be called now; the cause is the error of a call that was not run."""

    def __init__(self, cause: Exception) -> None:
        self.cause = cause


class RowCaller:
    """Calls the method for one row after another."""

    def __init__(
        self,
        client: RpcClient,
        pattern: ServicePattern,
        method: str,
        constants: Mapping[str, Any],
        options: MapOptions,
    ) -> None:
        self._client = client
        self._pattern = pattern
        self._method = method
        self._constants = constants
        self._options = options
        self._answered = False
        self._not_served_since: float | None = None

    async def call(self, row: Any, report: CallReport) -> Any:
        """Return the result for a row; `report` receives the instance that answers.

        A service that has answered before, and is not served now, is awaited for as long as a call
        may take: its instances may be restarting, and no row is lost.

        Raises:
            NoMoreCalls: the call was not run, and none of another row would be.
            Exception: the row failed.
        """
        report.instance = ""
        kwargs = self._kwargs(row)
        options, left, pauses = self._options, self._options.retries, backoff()
        while True:
            report.instance, report.progress = "", None
            report.began = report.ahead = None
            try:
                result = await self._client.call(
                    self._pattern,
                    self._method,
                    kwargs,
                    timeout=options.timeout,
                    version=options.version,
                    idempotent=options.idempotent,
                    cancel_on_timeout=options.cancel_on_timeout,
                    report=report,
                )
            except _NO_ROW_CAN_BE_CALLED as error:
                raise NoMoreCalls(error) from None
            except _NOT_SERVED as error:
                if not self._may_return():
                    raise NoMoreCalls(error) from None
            except Exception as error:
                if isinstance(error, RemoteError):
                    self._record_answer()
                if not left or isinstance(error, NotSerializable):
                    raise
                left -= 1
            else:
                self._record_answer()
                return result
            await asyncio.sleep(next(pauses))

    def restart(self) -> None:
        """Await a service that is not served for the full time again."""
        self._not_served_since = None

    def _kwargs(self, row: Any) -> dict[str, Any]:
        if isinstance(row, Exception):  # the row could not be read
            raise row
        if not isinstance(row, Mapping):
            raise InvalidArgumentType(
                f"A row is a {type(row).__name__}, and each row of a map is a mapping of keywords."
            )
        return {**self._constants, **row}

    def _record_answer(self) -> None:
        self._answered = True
        self._not_served_since = None

    def _may_return(self) -> bool:
        """Return whether the service is still awaited."""
        if not self._answered:
            return False
        now = time.monotonic()
        if self._not_served_since is None:
            self._not_served_since = now
        return now - self._not_served_since < self._patience

    @property
    def _patience(self) -> float:
        timeout = self._options.timeout
        seconds = self._client.timeout if timeout is None else time_limit(timeout)
        return PATIENCE if seconds is None else seconds


class RowFailed(Exception):
    """The first failure of a map with ``on_error="raise"``."""

    def __init__(self, number: int, error: Exception) -> None:
        self.number = number
        self.error = error
