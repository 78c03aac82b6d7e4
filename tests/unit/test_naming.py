"""Names of services, exchanges and queues, and URIs without their password."""

from __future__ import annotations

import re
import socket
import ssl
from urllib.parse import quote

import pytest
from aiormq import exceptions as amqp_errors
from hypothesis import given
from hypothesis import strategies as st

from fabric_nb.errors import (
    BrokerUnavailable,
    InvalidName,
    InvalidUri,
    LoginRefused,
    TlsFailed,
    VirtualHostRefused,
)
from fabric_nb.fabric.amqp.transport import explain_failure
from fabric_nb.fabric.amqp.uri import mask, parse_uri, split_uris
from fabric_nb.fabric.wire.names import (
    DEAD_LETTER_EXCHANGE,
    ServiceName,
    ServicePattern,
    check_method,
    data_exchange,
    discovery_exchange,
    is_method,
    is_part,
    log_exchange,
    parse_call,
)

PART = re.compile(r"[A-Za-z0-9_-]{1,63}", re.ASCII)
parts = st.from_regex(PART, fullmatch=True)
BAD_PARTS = ["", " ", "a b", "a.b", "a\n", "é", "a:b", "a/b", "x" * 64, None, 5, b"a", "#", "*"]


# -- names


def test_names_on_the_broker() -> None:
    """Exchanges and queues have the names of the wire contract."""
    name = ServiceName("my_project", "calc", "c-1")
    assert name.fqn == str(name) == "my_project.calc.c-1"
    assert name.api_exchange == "my_project.api.calc.c-1"
    assert name.method_queue("multiply") == "my_project.api.calc.c-1::multiply"
    assert log_exchange("my_project") == "my_project.log.records"
    assert data_exchange("my_project") == "my_project.data"
    assert discovery_exchange() == "msc.discovery"
    assert DEAD_LETTER_EXCHANGE == "rpc.dlx"


def test_names_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """The discovery and data exchanges can be set by the environment, as in amqp-fabric."""
    monkeypatch.setenv("DISCOVERY_EXCHANGE_NAME", "other.discovery")
    monkeypatch.setenv("DATA_EXCHANGE_NAME", "stream")
    assert discovery_exchange() == "other.discovery"
    assert data_exchange("d") == "d.stream"


@given(parts, parts, parts)
def test_valid_names(domain: str, type_: str, id_: str) -> None:
    """Any three valid parts are an address, which every form of the name is parsed to."""
    name = ServiceName(domain, type_, id_)
    assert ServicePattern.parse(name.fqn, domain="other").exact == name
    assert ServicePattern.parse(f"{type_}.{id_}", domain=domain).exact == name
    short = ServicePattern.parse(id_, domain=domain)
    assert short.exact is None
    assert short.matches(name)
    pattern, method = parse_call(f"{name.fqn}.run", domain="other")
    assert (pattern.exact, method) == (name, "run")


@pytest.mark.parametrize("field", ["domain", "type", "id"])
@pytest.mark.parametrize("bad", BAD_PARTS)
def test_invalid_names(field: str, bad: object) -> None:
    """The error for an invalid part names the part and the allowed characters."""
    given_parts = {"domain": "d", "type": "t", "id": "i", field: bad}
    with pytest.raises(InvalidName, match=f"service {field}: use 1 to 63 letters") as caught:
        ServiceName(**given_parts)  # type: ignore[arg-type]
    assert len(str(caught.value)) < 200
    assert not is_part(bad)


@given(st.text())
def test_parts_are_checked_by_the_same_rule(text: str) -> None:
    """A part is valid if and only if it is 1 to 63 ASCII letters, digits, `-` or `_`."""
    assert is_part(text) == bool(PART.fullmatch(text))


@pytest.mark.parametrize("bad", ["", "1a", "a-b", "a.b", "a b", "é", "x" * 129, "a\n", None, 3])
def test_invalid_methods(bad: object) -> None:
    """The error for an invalid method name names the allowed characters."""
    with pytest.raises(InvalidName, match="cannot be a method"):
        check_method(bad)
    assert not is_method(bad)


@pytest.mark.parametrize("good", ["a", "_private", "A1", "x" * 128])
def test_valid_methods(good: str) -> None:
    """ASCII identifiers are valid method names."""
    assert check_method(good) == good


@pytest.mark.parametrize("bad", ["", ".", "a.b.c.d", "a..b", "a b", "a.", ".a", "x" * 10_000])
def test_invalid_patterns(bad: str) -> None:
    """Text that is not the name of a service is refused with a short sentence."""
    with pytest.raises(InvalidName) as caught:
        ServicePattern.parse(bad, domain="d")
    assert len(str(caught.value)) < 250


@pytest.mark.parametrize("bad", ["", "run", ".run", "a.", "a.b.c.d.e", "a.b-c", "a b.run", None])
def test_invalid_calls(bad: str) -> None:
    """Text that is not the name of a call is refused."""
    with pytest.raises(InvalidName):
        parse_call(bad, domain="d")


def test_matching_of_patterns() -> None:
    """A pattern matches exactly: neither a prefix, nor another type or domain."""
    name = ServiceName("proj", "calc", "c1")
    assert ServicePattern("proj", None, "c1").matches(name)
    assert ServicePattern("proj", "calc", "c1").matches(name)
    assert not ServicePattern("proj", "cal", "c1").matches(name)
    assert not ServicePattern("proj", None, "c").matches(name)
    assert not ServicePattern("project", None, "c1").matches(name)
    assert ServicePattern("", "calc", "c1").matches(name)
    assert ServicePattern("", "calc", "c1").exact is None
    assert not ServicePattern("", "calc", "c").matches(name)
    assert str(ServicePattern("proj", None, "c1")) == "proj.c1"


# -- URIs


@pytest.mark.parametrize(
    ("uri", "host", "port"),
    [
        ("amqp://guest:guest@localhost/", "localhost", 5672),
        ("amqps://guest:guest@localhost/", "localhost", 5671),
        ("  amqp://localhost:1234/vhost\n", "localhost", 1234),
        ("amqp://[::1]/", "::1", 5672),
        ("AMQP://localhost", "localhost", 5672),
        ("amqp://localhost:5672/?cafile=/home/a@b.pem", "localhost", 5672),
        ("amqp://ann:p%23s@localhost/a@b", "localhost", 5672),
    ],
)
def test_valid_uris(uri: str, host: str, port: int) -> None:
    """An AMQP URI is accepted, with the default port if it has none."""
    url = parse_uri(uri)
    assert (url.host, url.port) == (host, port)


@pytest.mark.parametrize(
    ("uri", "why"),
    [
        ("", "An AMQP URI is needed"),
        ("   ", "An AMQP URI is needed"),
        (None, "An AMQP URI is needed"),
        (5672, "An AMQP URI is needed"),
        ("localhost", "no scheme"),
        ("http://localhost", "not AMQP"),
        ("amqp://", "names no host"),
        ("amqp:///vhost", "names no host"),
        ("amqp://localhost:port/", "not a URI"),
        ("amqp://localhost:99999/", "not a URI"),
        ("amqp://[::1/", "not a URI"),
        ("amqp://ann:p#ss@host/", "%23 for '#'"),
        ("amqp://ann:12#3@host/", "%23 for '#'"),
        ("amqp://ann:se?cret@host/", r"%3F for '\?'"),
        ("amqp://ann:1?2@host/", r"%3F for '\?'"),
        ("amqp://ann:1?2&3@host/?heartbeat=5", r"%3F for '\?'"),
        ("amqp://ann:1/ss@host/", "%2F for '/'"),
    ],
)
def test_invalid_uris(uri: object, why: str) -> None:
    """An invalid URI is refused in one sentence with the reason."""
    with pytest.raises(InvalidUri, match=why) as caught:
        parse_uri(uri)
    assert "\n" not in str(caught.value).rstrip("\n")


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("amqp://ann:secret@host/", "amqp://ann:***@host/"),
        ("amqp://ann:s@cr:t@host:5672/v", "amqp://ann:***@host:5672/v"),
        ("amqp://ann:s/cr@t@host/v", "amqp://ann:***@host/v"),
        ("amqp://ann:s@cr/t@host/v", "amqp://ann:***@host/v"),
        ("amqp://ann:s?c#t@host/v", "amqp://ann:***@host/v"),
        ("amqp://:secret@host/", "amqp://:***@host/"),
        ("amqp://ann@host/", "amqp://ann@host/"),
        ("amqp://host:5672/v", "amqp://host:5672/v"),
        ("ann:secret@host", "ann:***@host"),
        ("nonsense", "nonsense"),
        ("", ""),
    ],
)
def test_masked_uris(uri: str, shown: str) -> None:
    """A masked URI has no password, and all other parts."""
    assert mask(uri) == shown


@pytest.mark.parametrize(
    ("uris", "each"),
    [
        ("amqp://host/", ["amqp://host/"]),
        ("amqp://a,b,c/", ["amqp://a/", "amqp://b/", "amqp://c/"]),
        (
            "amqps://ann:p,w@a,b:1/v?x=1,2",
            ["amqps://ann:p,w@a/v?x=1,2", "amqps://ann:p,w@b:1/v?x=1,2"],
        ),
        (["amqp://a/", "amqp://b,c/"], ["amqp://a/", "amqp://b/", "amqp://c/"]),
        ("amqp://ann:p,w/d@host/", ["amqp://ann:p,w/d@host/"]),
    ],
)
def test_uris_of_a_cluster(uris: object, each: list[str]) -> None:
    """Several hosts in one URI, or a list of URIs, are the nodes of one cluster."""
    assert split_uris(uris) == each


@pytest.mark.parametrize("uris", [[], "", " ", None, 7])
def test_no_uri_at_all(uris: object) -> None:
    """The error for a missing URI has an example."""
    with pytest.raises(InvalidUri, match="An AMQP URI is needed"):
        split_uris(uris)


passwords = st.text(
    st.sampled_from("@:/%?#[] &=+!~$") | st.characters(codec="utf-8", categories=["L", "N", "S"]),
    min_size=1,
    max_size=12,
).map(lambda text: f"K{text}Q")


@given(
    passwords, st.sampled_from(["", "/", "/vhost", "/%2F", ":5672/v?heartbeat=5"]), st.booleans()
)
def test_passwords_are_never_shown(password: str, rest: str, encoded: bool) -> None:
    """No password, and no part of one, is shown in a masked URI or in an error."""
    written = quote(password, safe="") if encoded else password
    uri = f"amqp://u-s:{written}@broker{rest}"
    assert mask(uri) == f"amqp://u-s:***@broker{rest}"
    texts = [mask(uri), mask([uri, uri])]
    try:
        texts += [mask(parse_uri(one)) for one in split_uris(uri)]
    except InvalidUri as error:
        texts.append(str(error))
    for text in texts:
        assert "K" not in text.replace("amqp", "")
        assert "Q" not in text.replace("AMQP", "")


# -- why connecting failed


def explained(error: Exception, uri: str = "amqp://ann:secret@host/v") -> Exception:
    return explain_failure(error, parse_uri(uri), mask(uri), 5.0)


@pytest.mark.parametrize(
    ("error", "kind", "words"),
    [
        (ConnectionRefusedError(111, "refused"), BrokerUnavailable, "nothing listens on host:5672"),
        (TimeoutError(), BrokerUnavailable, "no answer within 5 s"),
        (socket.gaierror(-2, "unknown"), BrokerUnavailable, "the host 'host' is not known"),
        (OSError(101, "Network is unreachable"), BrokerUnavailable, "Network is unreachable"),
        (
            amqp_errors.ProbableAuthenticationError("403"),
            LoginRefused,
            "user 'ann' or its password",
        ),
        (
            amqp_errors.ConnectionNotAllowed("NOT_ALLOWED - vhost v not found"),
            VirtualHostRefused,
            "no virtual host 'v'",
        ),
        (amqp_errors.AMQPConnectionError("closed"), BrokerUnavailable, "without speaking AMQP"),
        (ssl.SSLError(1, "x"), TlsFailed, "TLS with"),
        (RuntimeError("odd"), BrokerUnavailable, "RuntimeError: odd"),
    ],
)
def test_why_connecting_failed(error: Exception, kind: type[Exception], words: str) -> None:
    """The error for a broker that cannot be reached has the reason and the masked URI."""
    explanation = explained(error)
    assert type(explanation) is kind
    assert words in str(explanation)
    assert "amqp://ann:***@host/v" in str(explanation)
    assert "secret" not in str(explanation)
    assert "\n" not in str(explanation)


def test_wrapped_tls_failures() -> None:
    """A TLS failure is reported as such, also if the library wrapped it."""
    outer = ConnectionError("wrapped")
    outer.__cause__ = plain_port = ssl.SSLError(1, "[SSL: WRONG_VERSION_NUMBER] wrong version")
    plain_port.reason = "WRONG_VERSION_NUMBER"
    explanation = explained(outer, "amqps://host/")
    assert type(explanation) is TlsFailed
    assert "port 5671 does not speak TLS" in str(explanation)
