"""A private RabbitMQ node for tests: own ports, own data, gone when its owner is gone.

    with RabbitMq.start() as rabbitmq:
        connect(rabbitmq.uri)

By hand, `python -m tests.support.rabbitmq` starts a node, prints its URI and keeps it until Enter,
Ctrl-C or the end of the input. Another version than the installed one is used by pointing
`RABBITMQ_HOME` to its folder, the one that holds `sbin` and `plugins`.
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
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

from tests.support import rabbitmq_supervisor
from tests.support.rabbitmq_supervisor import PORT_TAKEN, RabbitMqError, find_server

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Self

ATTEMPTS = 3
"""Starts of a node; other programs may take a port that was free when it was chosen."""

__all__ = ["RabbitMq", "RabbitMqError"]

START_TIMEOUT = 90.0


class RabbitMq:
    """A running private node, seen from its owner.

    All methods block: management requests for some milliseconds, `start` and `restart_node` for
    some seconds. A test whose own event loop must go on meanwhile uses `asyncio.to_thread`.
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

    @classmethod
    def start(cls, **settings: Any) -> Self:
        """Start a node and return when it takes connections.

        The settings are `rabbitmq_supervisor.Supervisor`'s; with `ssl_options` it also listens
        for TLS, on `tls_port`.
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
            start_new_session=True,  # Ctrl-C in the owner's terminal is the owner's business
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
        """End the node and its supervisor, and remove the data; harmless when already stopped."""
        _end_supervisor(self._supervisor)

    # The node as a process

    def kill(self) -> None:
        """End the node at once (SIGKILL), as a crash does; its data stays."""
        self._command("kill")

    def restart_node(self) -> None:
        """Start the node again on the same port and data, killing it first when it still runs."""
        self.kill()
        self.pid = self._command("start")["pid"]

    def pause(self) -> None:
        """Stop the node from running without closing anything (SIGSTOP), as a stall does."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """Let a paused node go on (SIGCONT)."""
        os.kill(self.pid, signal.SIGCONT)

    def recover(self) -> None:
        """Bring the node up again where it was left paused or killed."""
        try:
            self.resume()
        except ProcessLookupError:
            self.restart_node()

    def set_memory_alarm(self, *, raised: bool) -> None:
        """Have the node believe that its memory is full, or that it is not."""
        self.control("set_vm_memory_high_watermark", "0.0000001" if raised else "0.4")

    def set_disk_alarm(self, *, raised: bool) -> None:
        """Have the node believe that its disk is full, or that it is not."""
        self.control("set_disk_free_limit", "1000000GB" if raised else "50MB")

    def control(self, *command: str) -> str:
        """Run a command of `rabbitmqctl` on the node, and return what it says."""
        done = subprocess.run(
            [find_server().with_name("rabbitmqctl"), "--quiet", *command],
            env=self._environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        if done.returncode:
            raise RabbitMqError(f"rabbitmqctl {' '.join(command)}: {done.stderr}{done.stdout}")
        return done.stdout

    @property
    def log(self) -> str:
        """What the node has logged so far."""
        return (self.home / "node.log").read_text(errors="replace")

    # Addresses, virtual hosts and users

    @property
    def uri(self) -> str:
        """The address of the default virtual host, for a user that may do everything."""
        return self.uri_for()

    @property
    def management_uri(self) -> str:
        """The address of the management plugin, with its administrator."""
        return f"http://{self.user}:{self.password}@127.0.0.1:{self.management_port}/"

    def uri_for(
        self, user: str | None = None, password: str | None = None, vhost: str = "/"
    ) -> str:
        """Return the address of a virtual host, for the given user or the host's own."""
        user = user or self._user_of(vhost)
        login = f"{quote(user, safe='')}:{quote(password or self.password, safe='')}"
        return f"amqp://{login}@127.0.0.1:{self.port}/{quote(vhost, safe='')}"

    def add_vhost(self, name: str) -> str:
        """Create a virtual host with a user of its own, named alike; return its URI."""
        self._api("PUT", "vhosts", name, body={})
        return self.add_user(name, self.password, vhost=name)

    def delete_vhost(self, name: str) -> None:
        """Delete a virtual host, its user and all it holds; its connections are closed."""
        self._api("DELETE", "vhosts", name)
        self._api("DELETE", "users", name)

    @contextmanager
    def private_vhost(self) -> Iterator[str]:
        """Yield the name of a new virtual host; afterwards it is gone and the node is up."""
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
        """Create a user with these rights (patterns of names) on a virtual host; return its URI."""
        self._api("PUT", "users", name, body={"password": password, "tags": ""})
        rights = {"configure": configure, "write": write, "read": read}
        self._api("PUT", "permissions", vhost, name, body=rights)
        return self.uri_for(name, password, vhost)

    # What is there

    def list_queues(self, vhost: str = "/") -> list[dict[str, Any]]:
        """Return the queues as they are now, with `messages`, `messages_ready` and arguments."""
        return self._list("queues", vhost, enable_queue_totals="true")

    def delete_queue(self, vhost: str, name: str) -> None:
        """Delete a queue with what is in it, as an operator may."""
        self._api("DELETE", "queues", vhost, name)

    def list_exchanges(self, vhost: str = "/") -> list[dict[str, Any]]:
        """Return the exchanges, without the ones that every virtual host has."""
        found = self._list("exchanges", vhost)
        return [e for e in found if e["name"] and not e["name"].startswith("amq.")]

    def list_bindings(self, vhost: str = "/") -> list[dict[str, Any]]:
        """Return the bindings, without each queue's own to the default exchange."""
        return [b for b in self._list("bindings", vhost) if b["source"]]

    def list_connections(self, vhost: str | None = None) -> list[dict[str, Any]]:
        """Return the open connections: `name`, `user`, `vhost`."""
        found = self._list("connections")
        return [c for c in found if vhost is None or c["vhost"] == vhost]

    def close_connections(self, vhost: str = "/", user: str | None = None) -> int:
        """Have the broker close a user's connections (320 CONNECTION_FORCED); return how many.

        The user is the virtual host's own unless another is given.
        """
        user = user or self._user_of(vhost)
        found = [c for c in self.list_connections(vhost) if c["user"] == user]
        self._api("DELETE", "connections", "username", user)
        return len(found)

    @property
    def version(self) -> str:
        """RabbitMQ's version."""
        return str(self._api("GET", "overview")["rabbitmq_version"])

    # Inside

    def _user_of(self, vhost: str) -> str:
        return self.user if vhost == "/" else vhost

    def _list(self, *path: str, **query: str) -> list[dict[str, Any]]:
        # Without statistics the answer is what is there now, not what was some seconds ago.
        found: list[dict[str, Any]] = self._api("GET", *path, disable_stats="true", **query)
        return found

    def _api(self, method: str, *path: str, body: Any = None, **query: str) -> Any:
        url = "/api/" + "/".join(quote(part, safe="") for part in path)
        url += f"?{urlencode(query)}" if query else ""
        login = base64.b64encode(f"{self.user}:{self.password}".encode()).decode()
        headers = {"Authorization": f"Basic {login}", "Content-Type": "application/json"}
        connection = http.client.HTTPConnection("127.0.0.1", self.management_port, timeout=30)
        try:
            connection.request(method, url, None if body is None else json.dumps(body), headers)
            response = connection.getresponse()
            answer = response.read()
        finally:
            connection.close()
        if response.status >= 400:
            raise RabbitMqError(f"{method} {url}: {response.status} {answer.decode()}")
        return json.loads(answer) if answer else None

    def _command(self, command: str) -> dict[str, Any]:
        """Send the supervisor a command and return its answer."""
        assert self._supervisor.stdin is not None
        assert self._supervisor.stdout is not None
        self._supervisor.stdin.write(command.encode() + b"\n")
        answered, _, _ = select.select([self._supervisor.stdout], [], [], START_TIMEOUT)
        if not answered:
            raise RabbitMqError(f"RabbitMQ did not {command} within {START_TIMEOUT:.0f} s")
        answer: dict[str, Any] = json.loads(self._supervisor.stdout.readline() or b'{"error": ""}')
        if "error" in answer:
            raise RabbitMqError(f"RabbitMQ did not {command}:\n{answer['error']}")
        return answer


def _end_supervisor(supervisor: subprocess.Popen[bytes]) -> None:
    assert supervisor.stdin is not None
    assert supervisor.stdout is not None
    supervisor.stdin.close()
    supervisor.wait()
    supervisor.stdout.close()


def main() -> None:
    """Keep a node for a person at a terminal."""
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
