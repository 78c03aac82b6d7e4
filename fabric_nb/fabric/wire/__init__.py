"""Typed messages <-> what travels. Pure; every rule is one of the wire contract.

Reading never trusts: a message that does not have the shape of its kind raises
`MalformedMessage`, whatever it holds, and nothing in it is looked up, imported or evaluated.
"""

from fabric_nb.fabric.wire.calls import (
    CALL,
    MAX_EXPIRATION,
    Expired,
    call_message,
    error_message,
    format_traceback,
    queue_of_death,
    read_call,
    read_reply,
    result_message,
)
from fabric_nb.fabric.wire.items import (
    BEGIN,
    END,
    ITEM,
    MAX_CREDIT,
    PROBE,
    begin_message,
    cancel_message,
    credit_message,
    end_message,
    item_message,
    probe_message,
    read_credit,
    wanted_credit,
)
from fabric_nb.fabric.wire.logs import (
    LEVELS,
    SEVERITY_HEADER,
    LogRecord,
    log_message,
    read_log,
    severity_of,
)
from fabric_nb.fabric.wire.presence import (
    MAX_ANNOUNCEMENT,
    Announcement,
    KeepAlive,
    goodbye_message,
    keep_alive_message,
    keep_alive_request,
    read_keep_alive,
)
from fabric_nb.fabric.wire.reading import MAX_TRACEBACK, ending, shortened

__all__ = [
    "BEGIN",
    "CALL",
    "END",
    "ITEM",
    "LEVELS",
    "MAX_ANNOUNCEMENT",
    "MAX_CREDIT",
    "MAX_EXPIRATION",
    "MAX_TRACEBACK",
    "PROBE",
    "SEVERITY_HEADER",
    "Announcement",
    "Expired",
    "KeepAlive",
    "LogRecord",
    "begin_message",
    "call_message",
    "cancel_message",
    "credit_message",
    "end_message",
    "ending",
    "error_message",
    "format_traceback",
    "goodbye_message",
    "item_message",
    "keep_alive_message",
    "keep_alive_request",
    "log_message",
    "probe_message",
    "queue_of_death",
    "read_call",
    "read_credit",
    "read_keep_alive",
    "read_log",
    "read_reply",
    "result_message",
    "severity_of",
    "shortened",
    "wanted_credit",
]
