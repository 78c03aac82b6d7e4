"""Where charts of streams are drawn: whoever can draw them says so here.

Streams know of no notebook. As in pandas, a backend draws what they hold; the notebook's extension
brings one when it is loaded.
"""

from __future__ import annotations

from typing import Any, Protocol

from fabric_nb.errors import NotInNotebook


class Backend(Protocol):
    """Draws charts."""

    def plot(self, stream: Any, *, y: Any, x: str | None, window: Any, title: str | None) -> Any:
        """Draw a chart of a stream; see `Stream.plot`."""


_backend: Backend | None = None


def set_backend(backend: Backend | None) -> None:
    """Draw with this from now on; None: charts cannot be drawn."""
    global _backend
    _backend = backend


def backend() -> Backend:
    """What charts are drawn with.

    Raises:
        NotInNotebook: there is nothing to draw with.
    """
    if _backend is None:
        raise NotInNotebook(
            "A live chart is drawn under a notebook's cell: run `%load_ext fabric_nb` there first."
            " Elsewhere, plot the DataFrame: stream.df.plot()."
        )
    return _backend
