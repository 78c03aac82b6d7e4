"""Rows in, DataFrame out: `FrameBuffer`. Pure: numpy and pandas, and pyarrow where pandas has it.

`buffer` holds rows and bounds them, `intake` checks what it is given, `columns` stores what one
column holds, `pieces` says what kind of values these are, and `times` which of them are times.
Imports go in this order. `clock` finds the times of a DataFrame.
"""

from fabric_nb.frames.buffer import FrameBuffer
from fabric_nb.frames.clock import only_time, timed
from fabric_nb.frames.intake import OVERFLOW
from fabric_nb.frames.times import Unit

__all__ = ["OVERFLOW", "FrameBuffer", "Unit", "only_time", "timed"]
