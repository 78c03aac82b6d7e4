"""Messages of data streams: JSON, JSON columns, Arrow; compressed or not. Pure.

What a body is, its content type and content encoding tell; a body without them is JSON, as
amqp-fabric publishes it. Everything read comes from elsewhere and is bounded and checked.
"""

from __future__ import annotations

import contextlib
import gzip
import importlib
import zlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, get_args

from fabric_nb.errors import MalformedMessage, NotSerializable
from fabric_nb.fabric import rows
from fabric_nb.fabric.amqp.fields import checked
from fabric_nb.fabric.amqp.message import Delivery, Message
from fabric_nb.fabric.codec import decode, encode, encode_columns
from fabric_nb.fabric.naming import ServiceName
from fabric_nb.fabric.tables import TABLES_HEADER

Format = Literal["json", "json-columns", "arrow"]
Compression = Literal["gzip", "zstd"]

JSON = "application/json"
JSON_COLUMNS = "application/vnd.fabric.columns+json"
ARROW = "application/vnd.apache.arrow.stream"
"""The registered media type of Arrow's IPC stream format."""

MAX_UNPACKED = 256 * 1024 * 1024
"""Bytes that a compressed body may unpack to."""

Row = Mapping[str, Any]
Columns = Mapping[str, Sequence[Any]]
Table = Any
"""A `pyarrow.Table`; pyarrow is an extra."""
Batch = Sequence[Row] | Columns | Table


def data_message(
    data: Any,
    headers: Mapping[str, Any] | None,
    sender: ServiceName,
    *,
    form: Format | None = None,
    compression: Compression | None = None,
) -> Message:
    """One message of a data stream: bytes as they are, anything else as JSON, or as a batch.

    Raises:
        NotSerializable: the data cannot be put into that form.
        UnusableHeader: a header cannot be sent.
    """
    mine = {**(headers or {}), "service_id": sender.id, "service_type": sender.type}
    kind: str | None = None
    if form is not None:
        body, kind = encode_rows(data, form)
    elif isinstance(data, (bytes, bytearray, memoryview)):
        body = bytes(data)
    else:
        given = list(data) if isinstance(data, Iterator) else data
        body, tables = encode(given, what=rows.WHAT)
        kind = JSON
        if tables is not None:
            mine[TABLES_HEADER] = tables
    if compression is not None:
        body = compress(body, compression)
    headers = checked(mine)
    return Message(body, headers=headers, content_type=kind, content_encoding=compression)


def read_rows(delivery: Delivery) -> Batch:
    """The rows in a message of a data stream, in whichever form they came."""
    return decode_rows(delivery.body, delivery.content_type, delivery.content_encoding)


def encode_rows(data: Any, form: Format) -> tuple[bytes, str]:
    """The body and content type of a batch.

    Args:
        data: a mapping of values (one row) or of lists (columns), mappings (rows), a DataFrame, or
            an Arrow table or what exports one; an index is sent as further columns unless it
            only counts.
        form: ``json``: a list of records, which amqp-fabric peers read too; ``json-columns``: an
            object of lists; ``arrow``: an Arrow IPC stream, by far the fastest (extra ``arrow``).

    Raises:
        NotSerializable: it is none of these, a value does not exist in that form, or pyarrow is not
            installed.
    """
    if form not in get_args(Format):
        raise NotSerializable(f"{form!r} is no format: use {', '.join(get_args(Format))}.")
    batch = rows.rows_or_columns(data)
    if form == "arrow":
        return arrow_body(rows.as_table(batch)), ARROW
    if form == "json-columns":
        return encode_columns(rows.as_columns(batch), what=rows.WHAT), JSON_COLUMNS
    return encode(rows.as_rows(batch), what=rows.WHAT)[0], JSON


def arrow_body(table: Table) -> bytes:
    """An Arrow table as an IPC stream."""
    import pyarrow as pa

    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    packed: bytes = sink.getvalue().to_pybytes()
    return packed


def decode_rows(body: bytes, content_type: str | None, content_encoding: str | None) -> Batch:
    """What is in a message of a data stream: rows, or columns, or an Arrow table.

    Raises:
        MalformedMessage: it is not what it says it is, unpacks to more than `MAX_UNPACKED`
            bytes, or is of a kind that cannot be read here.
    """
    if content_encoding:
        body = _unpack(body, content_encoding.lower())
    kind = (content_type or JSON).partition(";")[0].strip().lower()
    if kind == ARROW:
        return _read_arrow(body)
    value = decode(body)
    if kind == JSON_COLUMNS:
        return _checked_columns(value)
    if isinstance(value, dict):
        return (value,)
    if isinstance(value, list) and all(isinstance(row, dict) for row in value):
        return value
    raise MalformedMessage("A data message's body must be a JSON object, or a list of them.")


def rows_of(batch: Batch) -> Sequence[Row]:
    """The rows of a batch one by one, whatever its form."""
    if isinstance(batch, (list, tuple)):
        return batch
    if isinstance(batch, Mapping):
        return [dict(zip(batch, row, strict=True)) for row in zip(*batch.values(), strict=True)]
    table: Table = batch
    listed: Sequence[Row] = table.to_pylist()
    return listed


def _checked_columns(value: Any) -> Columns:
    lists = isinstance(value, dict) and all(isinstance(one, list) for one in value.values())
    if lists and len({len(column) for column in value.values()}) <= 1:
        columns: Columns = value
        return columns
    raise MalformedMessage("JSON columns must be an object of lists of one length.")


def _read_arrow(body: bytes) -> Table:
    try:
        import pyarrow as pa
    except ImportError:
        raise MalformedMessage(
            "Arrow cannot be read without pyarrow: pip install 'fabric-nb[arrow]'."
        ) from None
    try:
        with pa.ipc.open_stream(pa.py_buffer(body)) as reader:
            table = reader.read_all()
        table.validate(full=True)  # a hostile body could point outside of itself
    except (pa.ArrowException, ValueError, OSError) as error:
        raise MalformedMessage(f"The body is not an Arrow stream ({str(error)[:200]}).") from None
    return table


def compress(body: bytes, compression: Compression) -> bytes:
    """A compressed body; its content encoding is the compression's name.

    Raises:
        NotSerializable: zstd is not there (Python 3.14 has it, or the package backports.zstd).
    """
    if compression == "gzip":
        return gzip.compress(body, compresslevel=6, mtime=0)
    if compression != "zstd":
        raise NotSerializable(f"{compression!r} is no compression: use gzip or zstd.")
    zstd = _zstd()
    if zstd is None:
        raise NotSerializable(f"{_WITHOUT_ZSTD}, or use gzip.")
    packed: bytes = zstd.compress(body)
    return packed


_WITHOUT_ZSTD = "zstd needs Python 3.14 or backports.zstd: pip install 'fabric-nb[zstd]'"


def _zstd() -> Any:
    """The module of the standard library, or its backport; None where there is neither."""
    for name in ("compression.zstd", "backports.zstd"):
        with contextlib.suppress(ImportError):
            return importlib.import_module(name)
    return None


def _unpack(body: bytes, encoding: str) -> bytes:
    if encoding in ("gzip", "x-gzip"):
        return _gunzip(body)
    if encoding == "zstd":
        return _unzstd(body)
    raise MalformedMessage(f"The content encoding {encoding[:40]!r} is not known: gzip or zstd.")


def _gunzip(body: bytes) -> bytes:
    unpacker = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
    try:
        unpacked = unpacker.decompress(body, MAX_UNPACKED)
    except zlib.error as error:
        raise MalformedMessage(f"The body is not gzip ({error}).") from None
    if unpacker.unconsumed_tail:
        raise MalformedMessage(f"The body unpacks to more than {MAX_UNPACKED} bytes.")
    if not unpacker.eof:
        raise MalformedMessage("The gzip body ends too early.")
    return unpacked


def _unzstd(body: bytes) -> bytes:
    zstd = _zstd()
    if zstd is None:
        raise MalformedMessage(f"{_WITHOUT_ZSTD}.")
    unpacker = zstd.ZstdDecompressor()
    try:
        unpacked: bytes = unpacker.decompress(body, MAX_UNPACKED + 1)
    except zstd.ZstdError as error:
        raise MalformedMessage(f"The body is not zstd ({error}).") from None
    if len(unpacked) > MAX_UNPACKED:
        raise MalformedMessage(f"The body unpacks to more than {MAX_UNPACKED} bytes.")
    if not unpacker.eof:
        raise MalformedMessage("The zstd body ends too early.")
    return unpacked
