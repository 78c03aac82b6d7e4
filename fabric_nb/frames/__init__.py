"""Rows to DataFrames, without I/O; all modules but `rows` import numpy and pandas.

`buffer` stores rows within bounds and shows them as a DataFrame, `rows` checks rows,
`normalisation` checks columns, `column_storage` stores one column, `typed_chunks` infers and widens
column types, and `time_conversion` recognises times. Imports go in this order. `time_columns` finds
the time columns of a DataFrame. pyarrow is used if pandas stores text in it.
"""
