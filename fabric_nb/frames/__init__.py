"""Rows in, DataFrame out: `FrameBuffer`. Pure: numpy and pandas, and pyarrow where pandas has it.

`buffer` holds rows and bounds them, `columns` stores what one column holds, `pieces` says what kind
of values these are, and `times` which of them are times. Imports go in this order.
"""

from fabric_nb.frames.buffer import OVERFLOW, FrameBuffer
from fabric_nb.frames.times import Unit

__all__ = ["OVERFLOW", "FrameBuffer", "Unit"]
