"""What can be shown under a cell and kept alive: a page, or a table."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Hashable
from dataclasses import dataclass
from typing import Any, ClassVar

from fabric_nb.notebook.pages import Page
from fabric_nb.notebook.table import Head, TableModel


class View(ABC):
    """State that can be seen."""

    @abstractmethod
    def version(self) -> Hashable:
        """Something that differs whenever what is seen does; asked for ten times a second."""


class PageView(View):
    """State that is seen as a page."""

    @abstractmethod
    def page(self) -> Page:
        """What is to be seen now."""


class TableView(View):
    """State that is seen as a table.

    Attributes:
        narrow: whether it may stand beside another where several are shown together.
    """

    narrow: ClassVar[bool] = False

    @abstractmethod
    def model(self) -> TableModel:
        """An empty table for it."""

    @abstractmethod
    def fill(self, model: TableModel) -> None:
        """Make a table of `model` show what is to be seen now."""

    def act(self, name: str, value: Any) -> str | Awaitable[str | None] | None:
        """A button (`value` None), a choice (the option) or a form (texts by field) was used.

        What is returned is shown, as is the error that is raised.
        """
        raise LookupError(f"There is no {name!r} here.")

    def opened(self, key: Hashable) -> None:
        """The row of that key was opened."""


class ViewModel:
    """A table view and the model that it fills: what cells and the panel show of it.

    Args:
        view: filled at once.
    """

    def __init__(self, view: TableView) -> None:
        self.view = view
        self._drawn: Hashable = view.version()
        self.model = view.model()
        view.fill(self.model)

    def refresh(self) -> bool:
        """Fill the model again if the view has changed; return whether it has."""
        if (version := self.view.version()) == self._drawn:
            return False
        self._drawn = version
        self.view.fill(self.model)
        return True


@dataclass(eq=False)
class Missing(TableView):
    """A table that cannot be had, and why."""

    title: str
    why: str

    def version(self) -> Hashable:
        """It stays as it is."""
        return None

    def model(self) -> TableModel:
        """A table of nothing."""
        return TableModel(Head(self.title, empty=self.why))

    def fill(self, model: TableModel) -> None:
        """There is nothing to be shown."""
