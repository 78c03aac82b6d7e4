"""Services as the items of the panel's tree. Pure; remote text is truncated and sanitized here.

Remote names that could not be inserted into a cell are omitted: services and methods by the rules
of the wire contract, arguments unless they are ASCII identifiers.
"""

from __future__ import annotations

import keyword
from collections.abc import Hashable, Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from fabric_nb.fabric.wire.names import is_method
from fabric_nb.notebook.pages import counted, plain
from fabric_nb.notebook.table.parts import encoded_badge, encoded_field
from fabric_nb.notebook.views.methods import MORE, argument_fields
from fabric_nb.notebook.views.services import (
    Methods,
    Selection,
    ServiceFacts,
    Services,
    service_badge,
)
from fabric_nb.notebook.views.statistics import rate_text, summary

MAX_SERVICES = 2000
MAX_METHODS = 100
MAX_INSTANCES = 50
MAX_ID = 40
"""Maximum characters of the id of an instance."""

Item = dict[str, Any]


class TreeState(NamedTuple):
    """Tree at one moment; it is not modified later, and may be read in any thread.

    Attributes:
        items: an item for each service, by full name.
        statistics: statistics of the services that have any, by full name. They are apart from the
            items, because they change with every keep-alive and are much smaller.
        remarks: remarks on all services: ``up``, number of services of the notebook's domain that
            are up or busy; ``alone``, True if no other service is present there; ``elsewhere``, a
            sentence on other domains if so; ``notes``, sentences on what the tree does not show.
    """

    items: Mapping[str, Item]
    statistics: Mapping[str, Item]
    remarks: Item


class ServicesTree:
    """Items of the tree, and remarks on all services.

    An item is the same object until it changes, so that comparing it with the one that was sent
    last is fast.

    Args:
        services: the services to show.
    """

    def __init__(self, services: Services) -> None:
        self._services = services
        self._selection: Selection | None = None
        self._state = TreeState({}, {}, {})
        self._items: dict[str, tuple[ServiceFacts, Item]] = {}
        self._statistics: dict[str, Item] = {}
        self._statistics_of: dict[str, Hashable] = {}

    def state(self) -> TreeState:
        """Return the current state; the same object until something has changed."""
        selection = self._services.select()
        remarks = self._remarks(selection)
        if selection is not self._selection:
            self._selection = selection
            self._refresh(selection)
            items = {name: item for name, (_, item) in self._items.items()}
            self._state = TreeState(items, self._statistics, remarks)
        elif remarks != self._state.remarks:
            self._state = self._state._replace(remarks=remarks)
        return self._state

    def _refresh(self, selection: Selection) -> None:
        now = self._services.fabric.registry.now
        before, self._items = self._items, {}
        known_statistics, self._statistics = self._statistics, {}
        known_calls, self._statistics_of = self._statistics_of, {}
        for facts in selection.services:
            name = facts.name.fqn
            known = before.get(name)
            unchanged = known is not None and known[0] is facts
            self._items[name] = known if known and unchanged else (facts, _item(facts))
            calls = facts.statistics(now), facts.service.queues(now)
            if calls == (None, None):
                continue
            self._statistics_of[name] = calls
            if known_calls.get(name) == calls:
                if (statistics := known_statistics.get(name)) is not None:
                    self._statistics[name] = statistics
            elif lines := summary(facts.service, now):
                self._statistics[name] = _statistics(facts, lines, now)

    def _remarks(self, selection: Selection) -> Item:
        services = self._services
        alone = selection.others == 0
        more = [f"… and {counted(selection.more, 'more service')}."] if selection.more else []
        return {
            "up": selection.up,
            "alone": alone,
            "elsewhere": services.other_domains() if alone else "",
            "notes": [*more, *services.notes()],
        }


def _item(facts: ServiceFacts) -> Item:
    name, methods = facts.name, facts.methods
    instances = facts.instances if len(facts.instances) > 1 else ()
    return {
        "domain": name.domain,
        "type": name.type,
        "id": name.id,
        "state": encoded_badge(service_badge(facts.state)),
        "version": plain(facts.version, 60),
        "count": facts.count,
        "methods": _methods(tuple(methods.signatures.items())),
        "methods_note": _methods_note(methods),
        "instances": [
            {
                "id": plain(each.id, MAX_ID),
                "state": encoded_badge(service_badge(each.state)),
                "version": plain(each.version, 40),
            }
            for each in instances[:MAX_INSTANCES]
        ],
        "instances_note": _more(len(instances) - MAX_INSTANCES, "instance"),
    }


def _statistics(facts: ServiceFacts, lines: Sequence[str], now: float) -> Item:
    calls = facts.statistics(now)
    instances = facts.service.present(now) if len(facts.instances) > 1 else ()
    return {
        "rate": rate_text(calls.calls_s) if calls is not None else "",
        "lines": lines,
        "instances": {
            plain(each.id, MAX_ID): rate_text(each.statistics.calls.calls_s)
            for each in instances[:MAX_INSTANCES]
            if each.statistics is not None
        },
    }


def _methods_note(methods: Methods) -> str:
    if not methods.signatures and not methods.unannounced:
        return "No methods announced"
    return _more(methods.more(MAX_METHODS), "method")


def _more(count: int, noun: str) -> str:
    return counted(count, f"more {noun}") if count > 0 else ""


@lru_cache(maxsize=4096)  # services of a type have the same methods
def _methods(signatures: tuple[tuple[str, str], ...]) -> Sequence[Item]:
    shown = sorted((name, text) for name, text in signatures if is_method(name))
    return [
        {
            "name": name,
            "signature": plain(text),
            "fields": [
                encoded_field(field)
                for field in argument_fields(text)
                if field.name == MORE or _is_insertable(field.name)
            ],
        }
        for name, text in shown[:MAX_METHODS]
    ]


def _is_insertable(argument: str) -> bool:
    return argument.isascii() and argument.isidentifier() and not keyword.iskeyword(argument)
