"""TLS settings of a URI, and explanations of TLS failures."""

from __future__ import annotations

import asyncio
import logging
import ssl
from pathlib import Path
from typing import Any

from yarl import URL

log = logging.getLogger(__name__)

FILES = ("cafile", "certfile", "keyfile")
SERVER_NAME = "server_name_indication"
_YES = {"1", "true", "yes", "on"}
"""Values of the option ``no_verify_ssl``."""

# Alerts of a broker that concern the client's certificate.
_CLIENT_CERTIFICATE_ALERTS = ("certificate", "unknown ca", "handshake failure", "access denied")
_NO_TLS = {"WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "UNEXPECTED_EOF_WHILE_READING"}


class UnusableFile(Exception):
    """A file named for TLS in the URI cannot be used; the message is the reason."""


async def tls_arguments(url: URL) -> dict[str, Any]:
    """Return the arguments of `loop.create_connection` for ``amqps://``; none for ``amqp://``.

    The certificate is verified against the system's authorities, or those in ``cafile``, and
    must be for ``server_name_indication``, or else for the host. Files are read each time, so
    that a renewed certificate is used at the next reconnect.

    Raises:
        UnusableFile: a file is missing, or has other contents than required.
    """
    if url.scheme != "amqps":
        return {}
    context = await asyncio.to_thread(_context, url)
    return {"ssl": context, "server_hostname": url.query.get(SERVER_NAME) or url.host}


def is_verified(url: URL) -> bool:
    """Return whether the certificate of the broker at an ``amqps://`` URI is verified."""
    return url.query.get("no_verify_ssl", "").lower() not in _YES


def _context(url: URL) -> ssl.SSLContext:
    files = {name: url.query.get(name) or None for name in FILES}
    for name, file in files.items():
        _check_readable(name, file)
    cafile, certfile, keyfile = files.values()
    try:
        context = ssl.create_default_context(cafile=cafile, capath=url.query.get("capath"))
    except ssl.SSLError:
        raise UnusableFile(f"cafile {cafile} holds no certificate in PEM form.") from None
    if certfile is not None:
        _load_client_certificate(context, certfile, keyfile)
    elif keyfile is not None:
        raise UnusableFile("keyfile is given without certfile, the certificate that it is for.")
    if not is_verified(url):
        log.warning("The certificate of %s is not verified (no_verify_ssl)", url.host)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _check_readable(name: str, file: str | None) -> None:
    if file is None:
        return
    try:
        with Path(file).open("rb"):
            pass
    except OSError as error:
        raise UnusableFile(f"{name} {file} cannot be read: {error.strerror}.") from None


def _load_client_certificate(context: ssl.SSLContext, certfile: str, keyfile: str | None) -> None:
    def no_password() -> str:  # otherwise OpenSSL prompts on the terminal, and a kernel hangs
        raise UnusableFile(
            f"the key in {keyfile or certfile} is encrypted: give one that is not, readable by"
            " you alone."
        )

    try:
        context.load_cert_chain(certfile, keyfile, no_password)
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise UnusableFile(
                f"the key in {keyfile or certfile} is not that of {certfile}."
            ) from None
        raise UnusableFile(
            f"certfile {certfile} and keyfile {keyfile or certfile} must hold a certificate and"
            " its key in PEM form."
        ) from None


def tls_reason(error: ssl.SSLError | UnusableFile, url: URL) -> str:
    """Return why TLS failed and what to do, as a clause that follows a colon."""
    if isinstance(error, UnusableFile):
        return str(error)
    if isinstance(error, ssl.SSLCertVerificationError):
        return _verification_reason(error, url)
    reason: str = getattr(error, "reason", None) or ""  # OpenSSL's name of the reason
    if reason in _NO_TLS:
        return f"port {url.port} does not speak TLS; use amqp:// or the TLS port (usually 5671)."
    words = reason.rpartition("ALERT_")[2].replace("_", " ").lower()
    if "ALERT" in reason and any(about in words for about in _CLIENT_CERTIFICATE_ALERTS):
        return f"{_client_certificate_advice(url)} ({words})."
    return f"{words or error}."


def closed_after_handshake(url: URL) -> str:
    """Return why the broker closed the connection right after the handshake.

    In TLS 1.3 it checks the client's certificate that late, and its alert may be lost with the
    connection.
    """
    return f"the broker ended the connection; perhaps {_client_certificate_advice(url)}."


def _client_certificate_advice(url: URL) -> str:
    if url.query.get("certfile"):
        return "it does not accept your certificate: check certfile"
    return "it wants a certificate of yours: give ?certfile= and &keyfile="


def _verification_reason(error: ssl.SSLCertVerificationError, url: URL) -> str:
    match error.verify_code:  # OpenSSL's X509_V_ERR_ numbers
        case 62 | 64:  # host name, IP address
            name = url.query.get(SERVER_NAME) or url.host
            return (
                f"the certificate is not for {name!r}: connect by a name that it is for, or"
                f" give that as ?{SERVER_NAME}=."
            )
        case 10:
            return "the certificate has expired: the broker needs a new one."
        case 9:
            return "the certificate is not valid yet: check this machine's clock."
        case 18:
            return "the certificate is self-signed: if it is the right one, give it as ?cafile=."
        case 19 | 20 | 21:  # its chain ends in a certificate that is missing or not trusted
            file = url.query.get("cafile")
            known = f"in {file}" if file else "known to this system"
            return (
                f"the certificate is of an authority that is not {known}: give the authority's"
                " file as ?cafile=/path/ca.pem."
            )
    return f"the certificate is not accepted ({error.verify_message})."
