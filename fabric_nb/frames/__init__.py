"""`FrameBuffer`: collects rows and shows them as a DataFrame. No I/O; needs numpy and pandas.

pyarrow is used if pandas stores text in it.

`buffer` stores rows within bounds, `normalisation` checks the input, `column_storage` stores one
column, `typed_chunks` infers and widens column types, and `time_conversion` recognises times.
Imports go in this order. `time_columns` finds the time columns of a DataFrame.
"""

from fabric_nb.frames.buffer import FrameBuffer
from fabric_nb.frames.normalisation import OVERFLOW
from fabric_nb.frames.time_columns import sole_time_column, with_time_index
from fabric_nb.frames.time_conversion import Unit

__all__ = ["OVERFLOW", "FrameBuffer", "Unit", "sole_time_column", "with_time_index"]
