"""Private RabbitMQ node for tests, with separate ports and data; it ends with its owner.

    with RabbitMq.start() as rabbitmq:
        connect(rabbitmq.uri)

`python -m tests.support.rabbitmq` starts a node manually, prints its URI and runs it until Enter,
Ctrl-C or the end of the input. To use another version than the installed one, set
`RABBITMQ_HOME` to its folder, which contains `sbin` and `plugins`.
"""

from __future__ import annotations

import base64
import http.client
import json
import os
import secrets
import select
import signal
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

import pytest

from tests.support import rabbitmq_supervisor
from tests.support.processes import pause
from tests.support.rabbitmq_supervisor import (
    PORT_TAKEN,
    RabbitMqError,
    find_server,
    rabbitmq_version,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Self

ATTEMPTS = 3
"""Attempts to start a node, because another program may bind a chosen port first."""

__all__ = ["RabbitMq", "RabbitMqError"]

CONTROL_TIMEOUT = START_TIMEOUT = 180.0


deletes_declared_exchanges = pytest.mark.skipif(
    rabbitmq_version()[:2] == [4, 3],
    reason="RabbitMQ 4.3 fails at every declaration of an exchange once it was declared and"
    " deleted at the same moment",
)
"""Mark of tests that delete exchanges while members declare them."""


class RabbitMq:
    """A running private node.

    All methods block: management requests for some milliseconds, `start` and `restart_node` for
    some seconds. A test whose event loop must keep running uses `asyncio.to_thread`.
    """

    def __init__(self, supervisor: subprocess.Popen[bytes]) -> None:
        self._supervisor = supervisor
        began = time.monotonic()
        facts = self._command("start")
        self.start_seconds = time.monotonic() - began
        self.home = Path(facts["home"])
        self.port: int = facts["port"]
        self.tls_port: int = facts["tls_port"]
        self.management_port: int = facts["management_port"]
        self.user: str = facts["user"]
        self.password: str = facts["password"]
        self.pid: int = facts["pid"]
        self._environment: dict[str, str] = facts["environment"]
        self._used_vhosts: list[str] = []

    @classmethod
    def start(cls, **settings: Any) -> Self:
        """Start a node and wait until it accepts connections.

        The settings are those of `rabbitmq_supervisor.Supervisor`; with `ssl_options` the node also
        listens for TLS on `tls_port`.
        """
        find_server()
        for _ in range(ATTEMPTS - 1):
            try:
                return cls._start(settings)
            except RabbitMqError as error:
                if PORT_TAKEN not in str(error):
                    raise
        return cls._start(settings)

    @classmethod
    def _start(cls, settings: dict[str, Any]) -> Self:
        supervisor = subprocess.Popen(
            [sys.executable, rabbitmq_supervisor.__file__, json.dumps(settings)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
            start_new_session=True,  # Ctrl-C reaches only the owner
        )
        try:
            return cls(supervisor)
        except BaseException:
            _end_supervisor(supervisor)
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """End the node and its supervisor, and remove the data; no effect if stopped."""
        _end_supervisor(self._supervisor)

    # Process

    def kill(self) -> None:
        """Kill the node (SIGKILL), like a crash; its data remains."""
        self._command("kill")

    def restart_node(self) -> None:
        """Kill the node if it is running, and start it on the same port and data."""
        self.kill()
        self.pid = self._command("start")["pid"]

    def pause(self) -> None:
        """Pause the node (SIGSTOP), like a stall; connections stay open."""
        pause(self.pid)

    def resume(self) -> None:
        """Resume a paused node (SIGCONT)."""
        os.kill(self.pid, signal.SIGCONT)

    def recover(self) -> None:
        """Resume or restart a node that was paused or killed."""
        try:
            self.resume()
        except ProcessLookupError:
            self.restart_node()

    def set_memory_alarm(self, *, raised: bool) -> None:
        """Raise or clear the memory alarm."""
        self.control("set_vm_memory_high_watermark", "0.0000001" if raised else "0.4")

    def set_disk_alarm(self, *, raised: bool) -> None:
        """Raise or clear the disk alarm."""
        self.control("set_disk_free_limit", "1000000GB" if raised else "50MB")

    def control(self, *command: str) -> str:
        """Run a command of `rabbitmqctl` on the node, and return its output."""
        completed = subprocess.run(
            [find_server().with_name("rabbitmqctl"), "--quiet", *command],
            env=self._environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=CONTROL_TIMEOUT,
        )
        if completed.returncode:
            raise RabbitMqError(
                f"rabbitmqctl {' '.join(command)}: {completed.stderr}{completed.stdout}"
            )
        return completed.stdout

    @property
    def log(self) -> str:
        """Log of the node so far."""
        return (self.home / "node.log").read_text(errors="replace")

    # Addresses, virtual hosts and users

    @property
    def uri(self) -> str:
        """URI of the default virtual host, for a user with all permissions."""
        return self.uri_for()

    @property
    def management_uri(self) -> str:
        """URI of the management plugin, with its administrator."""
        return f"http://{self.user}:{self.password}@127.0.0.1:{self.management_port}/"

    def uri_for(
        self, user: str | None = None, password: str | None = None, vhost: str = "/"
    ) -> str:
        """Return the URI of a virtual host, for the given user or the virtual host's."""
        user = user or self._user_of(vhost)
        login = f"{quote(user, safe='')}:{quote(password or self.password, safe='')}"
        return f"amqp://{login}@127.0.0.1:{self.port}/{quote(vhost, safe='')}"

    def add_vhost(self, name: str) -> str:
        """Create a virtual host and a user of the same name, and return its URI."""
        self._api("PUT", "vhosts", name, body={})
        return self.add_user(name, self.password, vhost=name)

    def delete_vhost(self, name: str) -> None:
        """Delete a virtual host, its content and its user, and close its connections."""
        self._api("DELETE", "vhosts", name)
        self.delete_user(name)

    @contextmanager
    def empty_vhost(self) -> Iterator[str]:
        """Yield the URI of an empty virtual host, for a new user who alone has permissions.

        The virtual host may have been used before, because creating and deleting one takes ten
        times as long as removing what a test has left in it. The node is recovered afterwards.
        """
        while self._used_vhosts and not self._emptied(self._used_vhosts[0]):
            self._api("DELETE", "vhosts", self._used_vhosts.pop(0))
        if self._used_vhosts:
            name = self._used_vhosts.pop(0)
        else:
            name = f"test-{secrets.token_hex(4)}"
            self._api("PUT", "vhosts", name, body={})
        user = f"user-{secrets.token_hex(4)}"
        try:
            yield self.add_user(user, self.password, vhost=name)
        finally:
            self.recover()
            self.delete_user(user)
            self._used_vhosts.append(name)

    @contextmanager
    def private_vhost(self) -> Iterator[str]:
        """Yield the name of a new virtual host; delete it afterwards, recovering the node first."""
        name = f"test-{secrets.token_hex(4)}"
        self.add_vhost(name)
        try:
            yield name
        finally:
            self.recover()
            self.delete_vhost(name)

    def add_user(
        self,
        name: str,
        password: str,
        *,
        vhost: str = "/",
        configure: str = ".*",
        write: str = ".*",
        read: str = ".*",
    ) -> str:
        """Create a user with permissions (name patterns) on a virtual host, and return its URI."""
        self._api("PUT", "users", name, body={"password": password, "tags": ""})
        permissions = {"configure": configure, "write": write, "read": read}
        self._api("PUT", "permissions", vhost, name, body=permissions)
        return self.uri_for(name, password, vhost)

    def delete_user(self, name: str) -> None:
        """Delete a user, and close its connections."""
        self._api("DELETE", "users", name)

    # Resources

    def list_queues(self, vhost: str = "/") -> list[dict[str, Any]]:
        """Return the current queues, with `messages`, `messages_ready` and arguments."""
        return self._list("queues", vhost, enable_queue_totals="true")

    def delete_queue(self, vhost: str, name: str) -> None:
        """Delete a queue and its messages, as an operator may."""
        self._api("DELETE", "queues", vhost, name)

    def list_exchanges(self, vhost: str = "/") -> list[dict[str, Any]]:
        """Return the exchanges, without predeclared ones."""
        result = self._list("exchanges", vhost)
        return [e for e in result if e["name"] and not e["name"].startswith("amq.")]

    def list_bindings(self, vhost: str = "/") -> list[dict[str, Any]]:
        """Return the bindings, without those to the default exchange."""
        return [b for b in self._list("bindings", vhost) if b["source"]]

    def list_connections(self, vhost: str | None = None) -> list[dict[str, Any]]:
        """Return the open connections: `name`, `user`, `vhost`."""
        # The list of each user is current; that of all users lags by up to 5 s on RabbitMQ 4.3.
        users = [user["name"] for user in self._list("users")]
        result = [c for user in users for c in self._list("connections", "username", user)]
        return [c for c in result if vhost is None or c["vhost"] == vhost]

    def close_connections(self, vhost: str = "/", user: str | None = None) -> int:
        """Close a user's connections (320 CONNECTION_FORCED), and return their number.

        The user is by default that of the virtual host.
        """
        user = user or self._user_of(vhost)
        result = [c for c in self.list_connections(vhost) if c["user"] == user]
        self._api("DELETE", "connections", "username", user)
        return len(result)

    @property
    def version(self) -> str:
        """RabbitMQ's version."""
        return str(self._api("GET", "overview")["rabbitmq_version"])

    # Internals

    def _user_of(self, vhost: str) -> str:
        return self.user if vhost == "/" else vhost

    def _emptied(self, vhost: str) -> bool:
        """Remove the content of a virtual host, and return whether nothing is left."""
        left = self._content(vhost)
        for kind, name in left:
            with suppress(RabbitMqError):  # it is being removed with its connection
                self._api("DELETE", kind, vhost, name)
        return not left or not self._content(vhost)

    def _content(self, vhost: str) -> list[tuple[str, str]]:
        queues = [("queues", queue["name"]) for queue in self.list_queues(vhost)]
        return queues + [("exchanges", one["name"]) for one in self.list_exchanges(vhost)]

    def _list(self, *path: str, **query: str) -> list[dict[str, Any]]:
        # Without statistics the reply is what is there now, not what was some seconds ago.
        result: list[dict[str, Any]] = self._api("GET", *path, disable_stats="true", **query)
        return result

    def _api(self, method: str, *path: str, body: Any = None, **query: str) -> Any:
        url = "/api/" + "/".join(quote(part, safe="") for part in path)
        url += f"?{urlencode(query)}" if query else ""
        login = base64.b64encode(f"{self.user}:{self.password}".encode()).decode()
        headers = {"Authorization": f"Basic {login}", "Content-Type": "application/json"}
        connection = http.client.HTTPConnection("127.0.0.1", self.management_port, timeout=60)
        try:
            connection.request(method, url, None if body is None else json.dumps(body), headers)
            response = connection.getresponse()
            reply = response.read()
        finally:
            connection.close()
        if response.status >= 400:
            raise RabbitMqError(f"{method} {url}: {response.status} {reply.decode()}")
        return json.loads(reply) if reply else None

    def _command(self, command: str) -> dict[str, Any]:
        """Send a command to the supervisor and return its reply."""
        assert self._supervisor.stdin is not None
        assert self._supervisor.stdout is not None
        self._supervisor.stdin.write(command.encode() + b"\n")
        ready, _, _ = select.select([self._supervisor.stdout], [], [], START_TIMEOUT)
        if not ready:
            raise RabbitMqError(f"RabbitMQ did not {command} within {START_TIMEOUT:.0f} s")
        reply: dict[str, Any] = json.loads(self._supervisor.stdout.readline() or b'{"error": ""}')
        if "error" in reply:
            raise RabbitMqError(f"RabbitMQ did not {command}:\n{reply['error']}")
        return reply


def _end_supervisor(supervisor: subprocess.Popen[bytes]) -> None:
    assert supervisor.stdin is not None
    assert supervisor.stdout is not None
    supervisor.stdin.close()
    supervisor.wait()
    supervisor.stdout.close()


def main() -> None:
    """Run a node until the input ends."""
    try:
        with RabbitMq.start() as rabbitmq:
            print(f"{rabbitmq.uri}\nup after {rabbitmq.start_seconds:.1f} s; Enter ends it")
            sys.stdin.readline()
    except KeyboardInterrupt:
        pass
    except RabbitMqError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
