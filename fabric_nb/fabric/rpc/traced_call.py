"""A call with its trace."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fabric_nb.fabric.tracing.traces import Trace
from fabric_nb.fabric.tracing.tree import Node, tree
from fabric_nb.fabric.tracing.waterfall import duration, waterfall_svg, waterfall_text

if TYPE_CHECKING:
    import pandas as pd


class TracedCall:
    """A call that was sampled, with the spans of all services on its way.

    Example::

        traced = await fabric.trace("my_app.report", day=1)
        print(traced.text)                # a waterfall
        Path("report.svg").write_text(traced.svg)

    Attributes:
        label: name of the call, as in ``my_app.report``.
        trace: its spans; None until it is sent.
        error: the exception with which it failed; None if it succeeded.
        done: True once it has ended, and its spans have arrived.
    """

    def __init__(self, label: str) -> None:
        self.label = label
        self.trace: Trace | None = None
        self.error: BaseException | None = None
        self.done = False
        self._result: Any = None

    @property
    def result(self) -> Any:
        """Result of the call.

        Raises:
            CallError: the call failed, as `error` says.
        """
        if self.error is not None:
            raise self.error
        return self._result

    def succeed(self, result: Any) -> None:
        """Set the result."""
        self._result = result

    @property
    def nodes(self) -> list[Node]:
        """The spans in the order of the waterfall."""
        return [] if self.trace is None else tree(self.trace.spans.values())

    @property
    def df(self) -> pd.DataFrame:
        """The spans as a DataFrame, as `Traces.df`."""
        return (self.trace or Trace("")).df

    @property
    def svg(self) -> str:
        """The waterfall as SVG."""
        return waterfall_svg(self.label, self.nodes)

    @property
    def text(self) -> str:
        """The waterfall as lines of text."""
        return waterfall_text(self.label, self.nodes)

    def __repr__(self) -> str:
        if not self.done:
            return f"<TracedCall {self.label}: running>"
        nodes, state = self.nodes, "failed" if self.error else "done"
        after = f" after {duration(max(node.end for node in nodes))}" if nodes else ""
        return f"<TracedCall {self.label}: {state}{after}>"
