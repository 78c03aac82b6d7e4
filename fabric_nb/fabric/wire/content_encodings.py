"""Content encodings of messages: compressions, with a limit of the decompressed size, and charsets.

AMQP 0-9-1 leaves the property ``content_encoding`` to applications: as in HTTP it names a
compression (``gzip``), kombu and Celery put a charset there (``utf-8``, ``binary``), and Spring
both (``gzip:utf-8``, or with a comma).
"""

from __future__ import annotations

import codecs
import contextlib
import importlib
import re
import zlib
from collections.abc import Callable, Iterator
from typing import Any, Final, cast

from fabric_nb.errors import MalformedMessage

WITHOUT_ZSTD: Final = "zstd needs Python 3.14 or backports.zstd: pip install 'fabric-nb[zstd]'"

_PLAIN = frozenset(("identity", "binary", "8bit", "7bit"))
_ASCII = frozenset(("utf-8", "ascii"))
_CHARSET = re.compile(r"utf-(8-sig|16|32)|iso8859|cp\d|koi8|gb|big5|shift_jis|euc_|mac-")
_MOST_CODINGS = 4
_FEED, _PIECE = 64 * 1024, 1024 * 1024
"""Maximum bytes of one input and of one output of a decompressor."""
_FIRST_FEED = 256
"""Bytes of the first input for each further compressed body: unused input is copied, and there may
be many very short bodies."""
_FEW, _SHORT = 64, 4096
"""Number of concatenated compressed bodies that is always accepted, and decompressed bytes of the
limit per further one."""


class TooLong(MalformedMessage):
    """A body that decompresses to more bytes than allowed."""


def unpack(body: bytes, encoding: str, most: int) -> bytes:
    """Return a body without its content encodings, as UTF-8 if it is in another charset.

    Args:
        body: the received body.
        encoding: its content encodings, in the order in which they were applied.
        most: maximum decompressed bytes, at every step.

    Raises:
        TooLong: it decompresses to more.
        MalformedMessage: it does not have its declared encoding, or an encoding is not known.
    """
    names = [name for name in re.split(r"[\s,:;]+", encoding.lower()) if name]
    if len(names) > _MOST_CODINGS:
        raise MalformedMessage(f"The body has {len(names)} content encodings, which are too many.")
    charset = ""
    for name in reversed(names):
        unpacker = _UNPACKERS.get(name)
        if unpacker is not None:
            body = unpacker(body, most)
        elif name not in _PLAIN:
            charset = _charset(name)
    if not charset or charset in _ASCII:
        return body
    try:
        return body.decode(charset).encode()
    except (UnicodeError, LookupError) as error:
        raise MalformedMessage(f"The body is not {charset} ({str(error)[:200]}).") from None


def _charset(name: str) -> str:
    with contextlib.suppress(LookupError, ValueError):
        charset = codecs.lookup(name[:40]).name
        if charset in _ASCII or _CHARSET.match(charset):
            return charset
    raise MalformedMessage(
        f"The content encoding {name[:40]!r} is not known: use gzip, deflate, zstd or a charset."
    )


def zstd_module() -> Any:
    """Return the module of the standard library, or its backport; None if there is neither."""
    for name in ("compression.zstd", "backports.zstd"):
        with contextlib.suppress(ImportError):
            return importlib.import_module(name)
    return None


def _gunzip(body: bytes, most: int) -> bytes:
    pieces = _inflated(body, zlib.MAX_WBITS | 16, most)
    return _joined(pieces, most, "gzip", zlib.error)


def _inflate(body: bytes, most: int) -> bytes:
    # As in HTTP, with the header of zlib; some clients send it without.
    head = len(body) > 1 and body[0] & 0x0F == 8 and int.from_bytes(body[:2]) % 31 == 0
    pieces = _inflated(body, zlib.MAX_WBITS if head else -zlib.MAX_WBITS, most)
    return _joined(pieces, most, "deflate", zlib.error)


def _unzstd(body: bytes, most: int) -> bytes:
    zstd = zstd_module()
    if zstd is None:
        raise MalformedMessage(f"{WITHOUT_ZSTD}.")
    return _joined(_decompressed(body, zstd.ZstdDecompressor, most), most, "zstd", zstd.ZstdError)


def _joined(pieces: Iterator[bytes], most: int, encoding: str, broken: type[Exception]) -> bytes:
    """Join the pieces of a decompressed body, without a copy of all of them."""
    whole = bytearray()
    try:
        for piece in pieces:
            whole += piece
            if len(whole) > most:
                raise TooLong(f"The body unpacks to more than {most:,} bytes.")
    except broken as error:
        raise MalformedMessage(f"The body is not {encoding} ({error}).") from None
    except EOFError:
        raise MalformedMessage(f"The {encoding} body ends too early.") from None
    return cast("bytes", whole)


def _inflated(body: bytes, wbits: int, most: int) -> Iterator[bytes]:
    """Yield the pieces of a decompressed body, which may be several concatenated ones."""
    at, feed, unpacker, ended = 0, _FEED, zlib.decompressobj(wbits), 0
    while at < len(body):
        if unpacker.eof:
            feed, unpacker = _FIRST_FEED, zlib.decompressobj(wbits)
            ended = _count_body(ended, most)
        data = body[at : at + feed]
        feed = min(2 * feed, _FEED)
        at += len(data)
        piece = b""
        while data or len(piece) == _PIECE:
            piece = unpacker.decompress(data, _PIECE)
            yield piece
            data = b"" if unpacker.eof else unpacker.unconsumed_tail
        at -= len(unpacker.unused_data)
    if not unpacker.eof:
        raise EOFError


def _count_body(ended: int, most: int) -> int:
    """Count a concatenated compressed body; limited, because each has a fixed cost."""
    if ended >= max(_FEW, most // _SHORT):
        raise TooLong(f"The body is more than {ended:,} compressed ones in a row.")
    return ended + 1


def _decompressed(body: bytes, make: Callable[[], Any], most: int) -> Iterator[bytes]:
    """Yield pieces as `_inflated` does, with a decompressor that buffers its input."""
    at, feed, unpacker, ended = 0, _FEED, make(), 0
    while at < len(body):
        if unpacker.eof:
            feed, unpacker, ended = _FIRST_FEED, make(), _count_body(ended, most)
        data = body[at : at + feed]
        feed = min(2 * feed, _FEED)
        at += len(data)
        yield unpacker.decompress(data, _PIECE)
        while not (unpacker.eof or unpacker.needs_input):
            yield unpacker.decompress(b"", _PIECE)
        at -= len(unpacker.unused_data)
    if not unpacker.eof:
        raise EOFError


_UNPACKERS: dict[str, Callable[[bytes, int], bytes]] = {
    "gzip": _gunzip,
    "x-gzip": _gunzip,
    "deflate": _inflate,
    "x-deflate": _inflate,
    "zstd": _unzstd,
}
