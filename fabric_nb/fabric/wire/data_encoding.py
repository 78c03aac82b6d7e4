"""Encoding of data stream messages: JSON, JSON columns, Arrow; compressed or not. Pure.

Content type and content encoding tell the format of a body; see `data_decoding` for the reader.
"""

from __future__ import annotations

import gzip
from collections.abc import Iterator, Mapping
from typing import Any, Literal, get_args

from fabric_nb.errors import NotSerializable
from fabric_nb.fabric.amqp.fields import checked
from fabric_nb.fabric.amqp.message import Message
from fabric_nb.fabric.wire import rows
from fabric_nb.fabric.wire.codec import encode, encode_columns
from fabric_nb.fabric.wire.content_encodings import WITHOUT_ZSTD, zstd_module
from fabric_nb.fabric.wire.formats import (
    ARROW,
    JSON,
    JSON_COLUMNS,
    TABLES_HEADER,
    Form,
    Table,
)
from fabric_nb.fabric.wire.names import ServiceName
from fabric_nb.libraries import importing, is_series

Format = Literal["json", "json-columns", "arrow"]
Compression = Literal["gzip", "zstd"]


def data_message(
    data: Any,
    headers: Mapping[str, Any] | None,
    sender: ServiceName,
    *,
    form: Format | None = None,
    compression: Compression | None = None,
) -> Message:
    """Return a message of a data stream: bytes unchanged, other data as JSON or in a row format.

    Raises:
        NotSerializable: the data cannot be encoded in that format.
        UnusableHeader: a header cannot be sent.
    """
    all_headers = {**(headers or {}), "service_id": sender.id, "service_type": sender.type}
    kind: str | None = None
    if form is not None:
        body, kind = encode_rows(data, form)
    elif isinstance(data, (bytes, bytearray, memoryview)):
        body = bytes(data)
    else:
        # A Series is rows of one column, with its index, in every format.
        content = rows.rows_or_columns(data) if is_series(data) else data
        content = list(content) if isinstance(content, Iterator) else content
        body, tables = encode(content, label=rows.LABEL)
        kind = JSON
        if tables is not None:
            all_headers[TABLES_HEADER] = tables
    if compression is not None:
        body = compress(body, compression)
    return Message(
        body, headers=checked(all_headers), content_type=kind, content_encoding=compression
    )


def recorded_message(batch: Any, form: Form, headers: Mapping[str, Any]) -> Message:
    """Return a message of a recording for playback, in the form in which it was received.

    Raises:
        NotSerializable: the rows cannot be encoded in that form.
    """
    if form == "arrow":
        return Message(arrow_body(batch), headers=headers, content_type=ARROW)
    kind = JSON_COLUMNS if form == "columns" else JSON
    content, label = (batch[0], "the row") if form == "object" else (batch, "the rows")
    return Message(encode(content, label=label)[0], headers=headers, content_type=kind)


def encode_rows(data: Any, form: Format) -> tuple[bytes, str]:
    """Return the body and the content type of a batch of rows.

    Args:
        data: a mapping of values (one row) or of lists (columns), mappings (rows), a DataFrame, or
            an Arrow table or an object that exports one; an index is sent as further columns,
            except for a plain row counter.
        form: ``json``: a list of records, which amqp-fabric peers read too; ``json-columns``: an
            object of lists; ``arrow``: an Arrow IPC stream, by far the fastest (extra ``arrow``).

    Raises:
        NotSerializable: it is none of these, a value does not exist in that format, or pyarrow is
            not installed.
    """
    if form not in get_args(Format):
        raise NotSerializable(f"{form!r} is no format: use {', '.join(get_args(Format))}.")
    batch = rows.rows_or_columns(data)
    if form == "arrow":
        with importing("pandas"):
            from fabric_nb.fabric.wire.arrow_tables import as_table
        return arrow_body(as_table(batch)), ARROW
    if form == "json-columns":
        return encode_columns(rows.as_columns(batch), label=rows.LABEL), JSON_COLUMNS
    return encode(rows.as_rows(batch), label=rows.LABEL)[0], JSON


def arrow_body(table: Table) -> bytes:
    """Encode an Arrow table as an IPC stream."""
    import pyarrow as pa

    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    packed: bytes = sink.getvalue().to_pybytes()
    return packed


def compress(body: bytes, compression: Compression) -> bytes:
    """Compress a body; its content encoding is the name of the compression.

    Raises:
        NotSerializable: zstd is not available (it needs Python 3.14 or backports.zstd).
    """
    if compression == "gzip":
        return gzip.compress(body, compresslevel=6, mtime=0)
    if compression != "zstd":
        raise NotSerializable(f"{compression!r} is no compression: use gzip or zstd.")
    zstd = zstd_module()
    if zstd is None:
        raise NotSerializable(f"{WITHOUT_ZSTD}, or use gzip.")
    packed: bytes = zstd.compress(body)
    return packed
