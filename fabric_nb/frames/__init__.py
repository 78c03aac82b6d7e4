"""Rows to DataFrames, without I/O.

`buffer` stores rows within bounds and shows them as a DataFrame, `normalisation` checks columns,
`column_storage` stores one column, `typed_chunks` infers and widens column types, and
`time_conversion` recognises times. Imports go in this order. `time_columns` finds the time columns
of a DataFrame. These import numpy and pandas, and pyarrow if pandas stores text in it; `rows` and
`arrow_types` do not.
"""
