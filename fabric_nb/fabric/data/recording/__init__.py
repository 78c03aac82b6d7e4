"""Recordings: files with the messages of a stream, their headers and times, for playback.

`entry` has one message of a recording; `jsonlines` and `parquet` (with `columns` and `footer`)
write and read files of them, and `files` chooses between the two; `recorder` writes the messages of
an open stream, and `replay` publishes them again.
"""

from fabric_nb.fabric.data.recording.columns import write_frame
from fabric_nb.fabric.data.recording.entry import HEADER_PREFIX
from fabric_nb.fabric.data.recording.recorder import Recording
from fabric_nb.fabric.data.recording.replay import Replay

__all__ = ["HEADER_PREFIX", "Recording", "Replay", "write_frame"]
