"""Live charts of streams, drawn in the browser from a picture that is computed in the kernel.

`decimate` reduces a column to the resolution of the screen, `ticks` chooses the marks of an axis,
`source` computes a `picture` of a stream's rows. `static` renders it as HTML and text, `widget` and
`chart` live, and `backend` is the backend of `Stream.plot`. Imports go in this order.
"""

from fabric_nb.notebook.plot.backend import Charts

__all__ = ["Charts"]
