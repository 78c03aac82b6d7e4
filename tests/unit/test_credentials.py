"""Sources of a login, and masking of passwords."""

from __future__ import annotations

from collections.abc import Iterator

import keyring
import pytest
from keyring.backend import KeyringBackend
from keyring.errors import KeyringLocked

from fabric_nb.errors import InvalidUri
from fabric_nb.fabric.amqp.credentials import BrokerUri, Secret, complete
from fabric_nb.fabric.amqp.uri import mask, parse_uri


class Ring(KeyringBackend):
    """Keyring in memory."""

    priority = 1  # type: ignore[assignment]

    def __init__(self) -> None:
        self.passwords: dict[tuple[str, str], str] = {}
        self.locked = False

    def get_password(self, service: str, username: str) -> str | None:
        if self.locked:
            raise KeyringLocked("locked")
        return self.passwords.get((service, username))

    def set_password(self, service: str, username: str, password: str) -> None:
        self.passwords[service, username] = password


@pytest.fixture(autouse=True)
def ring() -> Iterator[Ring]:
    """Empty keyring in place of the system's."""
    before = keyring.get_keyring()
    ring = Ring()
    keyring.set_keyring(ring)
    yield ring
    keyring.set_keyring(before)


def login(uri: str, **options: object) -> tuple[str | None, str | None]:
    """Return the user and the password that are used."""
    options = {"environment": {}} | options
    url = parse_uri(complete(uri, **options))  # type: ignore[arg-type]
    return url.user, url.password


def test_order(ring: Ring) -> None:
    """The order of sources is URI, configuration, environment, keyring, prompt."""
    ring.set_password("amqp://host:5672", "ann", "of the ring")
    environment = {"AMQP_USER": "eve", "AMQP_PASSWORD": "of the environment"}
    everything = {"user": "bob", "password": "configured", "environment": environment}
    ask = {"ask": lambda _: "asked"}
    assert login("amqp://ann:own@host/", **everything) == ("ann", "own")
    assert login("amqp://ann@host/", **everything) == ("ann", "configured")
    assert login("amqp://host/", **everything) == ("bob", "configured")
    assert login("amqp://host/", environment=environment) == ("eve", "of the environment")
    assert login("amqp://ann@host/", **ask) == ("ann", "of the ring")
    assert login("amqp://host/", user="ann") == ("ann", "of the ring")
    assert login("amqp://ann@other/", **ask) == ("ann", "asked")
    assert login("amqp://host/", password="p") == ("guest", "p")
    assert login("amqp://host/", **ask) == (None, None)
    assert login("amqp://ann:@host/", **ask) == ("ann", "")


def test_any_password(ring: Ring) -> None:
    """A password may contain any character, and is unchanged."""
    for password in ("p@ss/w:rd?#%", "%40", "ключ 🔑", " ", "a b"):
        ring.set_password("amqps://host:5671", "ann", password)
        assert login("amqps://ann@host/")[1] == password


def test_no_terminal_to_prompt_on(ring: Ring) -> None:
    """Without a prompt, the error names the alternatives; a locked keyring is like an empty one."""
    ring.locked = True
    with pytest.raises(InvalidUri) as caught:
        login("amqp://ann@host/")
    assert "set AMQP_PASSWORD" in str(caught.value)
    assert "keyring set amqp://host:5672 ann" in str(caught.value)


def test_prompt_names_user_and_host() -> None:
    """The prompt names the user and the host."""
    asked: list[str] = []
    login("amqp://ann@host:99/", ask=lambda prompt: asked.append(prompt) or "x")
    assert asked == ["Password of ann at host: "]


def test_options_of_tls() -> None:
    """Configured files apply to `amqps://` only, and those in the URI take precedence."""
    tls = {"cafile": "/my ca.pem", "certfile": "", "server_name_indication": "broker.test"}
    url = parse_uri(complete("amqps://host/?cafile=/own.pem&heartbeat=5", tls=tls, environment={}))
    assert dict(url.query) == {
        "cafile": "/own.pem",
        "heartbeat": "5",
        "server_name_indication": "broker.test",
    }
    assert parse_uri(complete("amqps://host/", tls=tls)).query["cafile"] == "/my ca.pem"
    assert not parse_uri(complete("amqp://host/", tls=tls)).query


def test_repr_of_a_secret_is_masked() -> None:
    """The repr of a password, or of a URI with one, is masked; the text itself is complete."""
    uri = BrokerUri("amqp://ann:s3cret@host/")
    for shown in (repr(uri), repr([uri]), f"{uri!r}", repr(Secret("s3cret"))):
        assert "s3cret" not in shown
    assert uri == "amqp://ann:s3cret@host/"
    assert repr(Secret("")) == "''"


@pytest.mark.parametrize(
    "uri",
    [
        "amqp://ann:s3cret@host/",
        "amqp://ann:s3cret@a@host/",
        "amqp://ann:s3cret/x@host/",
        "ann:s3cret@host",
        "amqps://host/?password=s3cret&heartbeat=3",
        "amqps://host/?heartbeat=3&PASSWORD=s3cret",
    ],
)
def test_masked(uri: str) -> None:
    """A masked URI shows the host and not the password, wherever it is in the URI."""
    assert "s3cret" not in mask(uri)
    assert "host" in mask(uri)
