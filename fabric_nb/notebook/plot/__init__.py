"""Live charts of streams: drawn in the browser from a picture that is made in the kernel.

`decimate` reduces a column to what so many pixels can show, `ticks` chooses and words what stands
along an axis, `source` makes a `picture` of a stream's rows. `static` shows it as HTML and text,
`widget` and `chart` live, and `backend` is what `Stream.plot` draws with. Imports go in this order.
"""

from fabric_nb.notebook.plot.backend import Charts

__all__ = ["Charts"]
