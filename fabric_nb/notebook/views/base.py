"""Base classes of live output under a cell: a page, or a table."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Hashable
from dataclasses import dataclass
from typing import Any, ClassVar

from fabric_nb.notebook.pages import Page
from fabric_nb.notebook.table import Head, TableModel
from fabric_nb.notebook.table.paging import PagedRows


class View(ABC):
    """State that is rendered under a cell."""

    @abstractmethod
    def version(self) -> Hashable:
        """Return a value that differs whenever the output does; polled ten times a second."""


class PageView(View):
    """State that is rendered as a page."""

    @abstractmethod
    def page(self) -> Page:
        """Return the current page."""


class TableView(View):
    """State that is rendered as a table.

    Attributes:
        narrow: True if the table may be placed beside another one.
    """

    narrow: ClassVar[bool] = False

    @abstractmethod
    def model(self) -> TableModel:
        """Return an empty table with the view's columns."""

    @abstractmethod
    def fill(self, model: TableModel) -> None:
        """Bring a table made by `model` up to date."""

    @property
    def pages(self) -> PagedRows | None:
        """Source of the rows of a paged table; None for a table whose model has all rows."""
        return None

    def act(self, name: str, value: Any) -> str | Awaitable[str | None] | None:
        """Perform an action of the table and return the text to show, if any.

        Args:
            name: name of the button, choice or form.
            value: None for a button, the option for a choice, texts by field for a form.

        Raises:
            LookupError: the view has no such action.
        """
        raise unknown_action(name)

    def opened(self, key: Hashable) -> None:
        """Handle the opening of the row with this key; does nothing by default."""


class ViewModel:
    """A table view and its model, shared by cells and the panel.

    Args:
        view: fills the model at once.
    """

    def __init__(self, view: TableView) -> None:
        self.view = view
        self._version: Hashable = view.version()
        self.model = view.model()
        view.fill(self.model)

    def refresh(self) -> bool:
        """Fill the model again if the view has changed; return whether it has."""
        if (version := self.view.version()) == self._version:
            return False
        self._version = version
        self.view.fill(self.model)
        return True


@dataclass(eq=False)
class UnavailableTable(TableView):
    """Placeholder for a table that is not available.

    Attributes:
        title: title of the table.
        why: reason, shown in place of the rows.
    """

    title: str
    why: str

    def version(self) -> Hashable:
        """Return None, because the table never changes."""
        return None

    def model(self) -> TableModel:
        """Return a table without rows."""
        return TableModel(Head(self.title, empty=self.why))

    def fill(self, model: TableModel) -> None:
        """Do nothing: there are no rows."""


def unknown_action(name: str) -> LookupError:
    """Return the error for an action that a view does not have."""
    return LookupError(f"This table has no action {name!r}.")
