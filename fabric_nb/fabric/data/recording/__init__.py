"""Recordings: the messages of a stream in a file, with headers and times, to be played again.

`entry` is one message of a recording; `jsonlines` and `parquet` (with `columns`) write and read
files of them, and `files` chooses between the two; `recorder` writes while a stream flows, and
`replay` publishes again.
"""

from fabric_nb.fabric.data.recording.columns import write_frame
from fabric_nb.fabric.data.recording.entry import HEADER_PREFIX
from fabric_nb.fabric.data.recording.recorder import Recording
from fabric_nb.fabric.data.recording.replay import Replay

__all__ = ["HEADER_PREFIX", "Recording", "Replay", "write_frame"]
