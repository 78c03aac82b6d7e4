"""Plotting backend of streams.

Streams do not depend on a notebook. As in pandas, a backend draws their rows; the notebook's
extension sets one when it is loaded.
"""

from __future__ import annotations

from typing import Any, Protocol

from fabric_nb.errors import NotInNotebook

KINDS = ("line", "area", "bar", "scatter", "hist")
"""Kinds of charts."""
HOWS = ("count", "sum", "mean", "median", "min", "max", "first", "last", "std")
"""Values that a chart computes of the rows of a bucket."""


class Backend(Protocol):
    """Draws charts of streams."""

    def plot(self, stream: Any, **options: Any) -> Any:
        """Draw a chart of a stream; see `Stream.plot` for the options."""


_backend: Backend | None = None


def set_backend(backend: Backend | None) -> None:
    """Set the backend; None: charts cannot be drawn."""
    global _backend
    _backend = backend


def backend() -> Backend:
    """Return the backend.

    Raises:
        NotInNotebook: there is none.
    """
    if _backend is None:
        raise NotInNotebook(
            "A live chart is drawn under a notebook's cell: run `%load_ext fabric_nb` there first."
            " Elsewhere, plot the DataFrame: stream.df.plot()."
        )
    return _backend
