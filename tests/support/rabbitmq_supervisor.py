"""Supervisor of a private RabbitMQ node: a program run by `rabbitmq.RabbitMq`.

The node and its port mapper (`epmd`) are its children, and its standard input is a pipe from the
owner. When the pipe closes, because the owner has exited or was killed, it ends both and
removes the data. It reads commands as lines, `start` and `kill`, and replies to each with a line of
JSON. It uses only the standard library, for a fast start. Its argument is a JSON
object, the keyword arguments of `Supervisor`. The environment variable `RABBITMQ_TEST_SETTINGS`
adds lines to the node's rabbitmq.conf.
"""

from __future__ import annotations

import json
import os
import queue
import random
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

MISSING = (
    "RabbitMQ is not installed, and this needs it: install it (Debian and Ubuntu: "
    "`apt-get install rabbitmq-server`), or point RABBITMQ_HOME to the folder of a RabbitMQ that "
    "holds `sbin` and `plugins`."
)

# RabbitMQ's folder in common packages. The `rabbitmq-server` on the PATH of a Debian machine is
# a wrapper that refuses ordinary users, so it is not used.
_HOMES = (
    "/usr/lib/rabbitmq/lib/rabbitmq_server-*",
    "/usr/local/lib/rabbitmq/lib/rabbitmq_server-*",
    "/opt/rabbitmq",
    "/opt/homebrew/opt/rabbitmq",
    "/usr/local/opt/rabbitmq",
)
_ERLANG_PARENTS = (Path("/usr/lib"), Path("/usr/local/lib"))


DENY_TRANSIENT_QUEUES = "deprecated_features.permit.transient_nonexcl_queues = false"
"""Setting that is RabbitMQ 4.3's default, but not that of its package in Debian."""
PORT_TAKEN = "another program took its port"


class RabbitMqError(RuntimeError):
    """The node was not found, did not start or did not reply; the message gives the reason."""


def find_server() -> Path:
    """Return the start script of the newest installed RabbitMQ.

    Raises:
        RabbitMqError: RabbitMQ is not installed; the message says what to install.
    """
    chosen = os.environ.get("RABBITMQ_HOME")
    homes = [Path(chosen)] if chosen else [found for home in _HOMES for found in _glob(home)]
    servers = [home / "sbin" / "rabbitmq-server" for home in homes]
    servers = [server for server in servers if server.is_file()]
    if not servers:
        raise RabbitMqError(MISSING)
    return max(servers, key=version_of)


def _program_path() -> str:
    """Return the search path of the node's programs.

    A Debian package of RabbitMQ has its Erlang beside it, also if unpacked elsewhere.
    """
    beside = [str(p) for parent in find_server().resolve().parents for p in _erlang(parent)]
    usual = [str(p) for parent in _ERLANG_PARENTS for p in _erlang(parent)]
    return os.pathsep.join([*beside, os.environ.get("PATH", os.defpath), *usual])


def _erlang(parent: Path) -> list[Path]:
    return [*parent.glob("erlang/bin"), *parent.glob("erlang/erts-*/bin")]


def _find_epmd() -> str:
    found = shutil.which("epmd", path=_program_path())
    if found is None:
        raise RabbitMqError(MISSING)
    return found


def _glob(pattern: str) -> list[Path]:
    return sorted(Path("/").glob(pattern.lstrip("/")))


def rabbitmq_version() -> list[int]:
    """Return the version of RabbitMQ, for example ``[3, 10, 8]``; empty if not installed."""
    try:
        return version_of(find_server())
    except RabbitMqError:
        return []


def transient_queues_denied() -> bool:
    """Return whether the tests' RabbitMQ refuses transient queues, which amqp-fabric needs."""
    return DENY_TRANSIENT_QUEUES in os.environ.get("RABBITMQ_TEST_SETTINGS", "")


TRANSIENT_QUEUES_DENIED = "this RabbitMQ refuses transient queues, which amqp-fabric declares"
"""Reason of skipped tests."""


def version_of(server: Path) -> list[int]:
    """Return the version in the name of a start script's folder."""
    name = server.parent.parent.resolve().name
    return [int(part) for part in name.rpartition("-")[2].split(".") if part.isdigit()]


def free_port() -> int:
    """Return a free loopback port outside the ephemeral range.

    While the node is down, a client that keeps connecting to an ephemeral port can be assigned
    the same port for its own end, and then connects to itself. Each worker of pytest-xdist has a
    range of its own, so that none takes a port before another one has bound it.
    """
    worker = os.environ.get("PYTEST_XDIST_WORKER", "gw11")
    first = 20_000 + 1000 * (int(worker.removeprefix("gw")) % 12)
    while True:
        port = random.randrange(first, first + 1000)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


class Supervisor:
    """Supervisor of one node.

    All events (commands, the readiness and exit of the node, the end of the owner) go through one
    queue and are handled by one thread.

    Args:
        ssl_options: TLS options: Erlang terms of advanced.config.
        name: Name of the node, before the `@`.
        cluster: Names of the nodes of its cluster; empty for a single node.
        secret: Shared secret of a cluster: the password and Erlang's cookie.
        epmd_port: Port of the port mapper, shared by a cluster.
        settings: Additional settings of rabbitmq.conf.
        advanced: Erlang terms of the application `rabbit` in advanced.config.
    """

    def __init__(
        self,
        *,
        ssl_options: str = "",
        name: str = "tests",
        cluster: Sequence[str] = (),
        secret: str = "",
        epmd_port: int = 0,
        settings: Mapping[str, object] | None = None,
        advanced: str = "",
    ) -> None:
        self._settings = settings or {}
        terms = (advanced, ssl_options and f"{{ssl_options, {ssl_options}}}")
        self._advanced = [term for term in terms if term]
        self._ssl_options = ssl_options
        self._name = name
        self._cluster = cluster
        self._home = Path(tempfile.mkdtemp(prefix="rabbitmq-"))
        self._events: queue.SimpleQueue[tuple[str, Any]] = queue.SimpleQueue()
        self._ports: dict[str, int] = {}
        for purpose in ("amqp", "tls", "management", "dist", "epmd"):
            while (port := free_port()) in self._ports.values():
                pass
            self._ports[purpose] = port
        self._ports["epmd"] = epmd_port or self._ports["epmd"]
        self._secret = secret or secrets.token_hex(16)
        self._login = {"user": "tests", "password": self._secret}
        self._epmd: subprocess.Popen[bytes] | None = None
        self._node: subprocess.Popen[bytes] | None = None
        self._replied = True

    def run(self) -> None:
        """Handle events until the owner ends."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self._events.put(("end", None)))
        handlers: dict[str, Callable[[Any], None]] = {
            "start": self._start,
            "kill": self._kill,
            "up": self._up,
            "exited": self._exited,
        }
        try:
            self._configure()
            self._start_thread(self._read_commands)
            self._start_thread(self._wait_until_up)
            while (event := self._events.get())[0] != "end":
                handlers[event[0]](event[1])
        finally:
            for process in (self._node, self._epmd):
                if process is not None:
                    process.kill()
                    process.wait()
            shutil.rmtree(self._home, ignore_errors=True)

    # Events

    def _start(self, _: object) -> None:
        self._replied = False
        try:
            if self._epmd is None:
                self._start_epmd()
            with (self._home / "node.log").open("ab") as log:
                self._node = subprocess.Popen(
                    [find_server()],
                    env=self._environment,
                    cwd=self._home,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                )
        except (OSError, RabbitMqError) as error:
            self._reply(error=str(error))
            return
        node = self._node
        self._start_thread(lambda: self._events.put(("exited", (node, node.wait()))))

    def _kill(self, _: object) -> None:
        if self._node is not None:
            self._node.kill()
            self._node.wait()
        self._reply(killed=True)

    def _up(self, _: object) -> None:
        assert self._node is not None
        if not self._replied:
            self._reply(
                home=str(self._home),
                pid=self._node.pid,
                port=self._ports["amqp"],
                tls_port=self._ports["tls"],
                management_port=self._ports["management"],
                environment=self._environment,
                **self._login,
            )

    def _exited(self, result: tuple[subprocess.Popen[bytes], int]) -> None:
        node, code = result
        if node is self._node and not self._replied:
            log = (self._home / "node.log").read_text(errors="replace")
            port_taken = "eaddrinuse" in log or "could_not_start_listener" in log
            reason = f" ({PORT_TAKEN})" if port_taken else ""
            self._reply(error=f"it ended with {code}{reason}:\n{log[-4000:]}")

    def _reply(self, **facts: Any) -> None:
        self._replied = True
        print(json.dumps(facts), flush=True)

    # Sources of events

    def _start_thread(self, work: Callable[[], None]) -> None:
        threading.Thread(target=work, daemon=True).start()

    def _read_commands(self) -> None:
        for line in sys.stdin:
            self._events.put((line.strip(), None))
        self._events.put(("end", None))

    def _wait_until_up(self) -> None:
        """Wait for the node's readiness notifications on the service manager's socket."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notices:
            notices.bind(self._environment["NOTIFY_SOCKET"])
            while True:
                if b"READY=1" in notices.recv(4096):
                    self._events.put(("up", None))

    # Configuration

    def _configure(self) -> None:
        self._write(".erlang.cookie", self._secret[::-1], mode=0o400)
        self._write("enabled_plugins", "[rabbitmq_management].")
        self._write(
            "rabbitmq.conf",
            f"listeners.tcp.1 = 127.0.0.1:{self._ports['amqp']}\n"
            "management.tcp.ip = 127.0.0.1\n"
            f"management.tcp.port = {self._ports['management']}\n"
            f"default_user = {self._login['user']}\n"
            f"default_pass = {self._login['password']}\n"
            "disk_free_limit.absolute = 50MB\n"
            "max_message_size = 134217728\n"  # 16 MiB by default in RabbitMQ 4
            "log.console = true\n"
            "log.file = false\n"
            + self._cluster_formation
            + os.environ.get("RABBITMQ_TEST_SETTINGS", "")
            + "\n"
            + "".join(f"{name} = {value}\n" for name, value in self._settings.items())
            + (f"listeners.ssl.1 = 127.0.0.1:{self._ports['tls']}\n" if self._ssl_options else ""),
        )
        if self._advanced:
            self._write("advanced.config", f"[{{rabbit, [{', '.join(self._advanced)}]}}].")

    @property
    def _cluster_formation(self) -> str:
        if not self._cluster:
            return ""
        formation = "cluster_formation."
        settings = f"{formation}peer_discovery_backend = classic_config\n"
        if rabbitmq_version() < [4]:
            settings += (
                f"{formation}randomized_startup_delay_range.min = 0\n"
                f"{formation}randomized_startup_delay_range.max = 1\n"
            )
        return settings + "".join(
            f"{formation}classic_config.nodes.{number} = {name}@localhost\n"
            for number, name in enumerate(self._cluster, 1)
        )

    def _write(self, name: str, text: str, mode: int = 0o600) -> None:
        path = self._home / name
        path.write_text(text)
        path.chmod(mode)

    @property
    def _environment(self) -> dict[str, str]:
        home = self._home
        return {
            "PATH": _program_path(),
            "LANG": "C.UTF-8",
            "HOME": str(home),
            # A service manager's socket: the start script then replaces itself by the node, so that
            # the child is the node, and the node notifies its readiness.
            "NOTIFY_SOCKET": str(home / "notify"),
            "ERL_EPMD_PORT": str(self._ports["epmd"]),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODENAME": f"{self._name}@localhost",
            "RABBITMQ_DIST_PORT": str(self._ports["dist"]),
            "RABBITMQ_BASE": str(home),
            "RABBITMQ_MNESIA_BASE": str(home / "data"),
            "RABBITMQ_LOG_BASE": str(home / "log"),
            "RABBITMQ_PID_FILE": str(home / "pid"),
            "RABBITMQ_CONFIG_FILE": str(home / "rabbitmq.conf"),
            "RABBITMQ_ADVANCED_CONFIG_FILE": str(home / "advanced.config"),
            "RABBITMQ_CONF_ENV_FILE": str(home / "rabbitmq-env.conf"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(home / "enabled_plugins"),
            "RABBITMQ_FEATURE_FLAGS_FILE": str(home / "feature_flags"),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": (
                "-kernel inet_dist_use_interface {127,0,0,1} "
                "+S 2:2 +sbwt none +sbwtdcpu none +sbwtdio none"
            ),
        }

    def _start_epmd(self) -> None:
        """Start the port mapper first, because a node without one starts it as a daemon."""
        port = self._ports["epmd"]
        self._epmd = subprocess.Popen(
            [_find_epmd(), "-address", "127.0.0.1", "-port", str(port)],
            env={"HOME": str(self._home)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + 10
        # In a cluster only one port mapper starts; the others exit immediately.
        while (self._cluster or self._epmd.poll() is None) and time.monotonic() < deadline:
            try:
                socket.create_connection(("127.0.0.1", port)).close()
            except OSError:
                time.sleep(0.01)
            else:
                return
        raise RabbitMqError("the Erlang port mapper (epmd) did not start")


if __name__ == "__main__":
    Supervisor(**json.loads(sys.argv[1])).run()
