"""The keywords of the connector's methods are the fields of their option classes."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import MISSING, fields
from typing import Any

import pytest

from fabric_nb import AmqBrokerConnector, ServeOptions, StreamOptions
from fabric_nb.fabric.rpc.mapping import MapOptions

CASES = [
    (AmqBrokerConnector.serve, ServeOptions, {"type", "id", "replacing"}, set()),
    (AmqBrokerConnector.stream, StreamOptions, {"domain"}, set()),
    (AmqBrokerConnector.map, MapOptions, set(), set()),
    (AmqBrokerConnector.map_stream, MapOptions, set(), {"spread"}),
]


@pytest.mark.parametrize(("method", "options", "more", "omitted"), CASES)
def test_keywords_are_the_options(
    method: Callable[..., Any], options: type[Any], more: set[str], omitted: set[str]
) -> None:
    """Each option is a keyword with the same default, and there are no other ones."""
    keywords = {
        name: parameter.default
        for name, parameter in inspect.signature(method).parameters.items()
        if parameter.kind is parameter.KEYWORD_ONLY and name not in more
    }
    offered = [field for field in fields(options) if field.name not in omitted]
    assert keywords == {field.name: field.default for field in offered}
    assert MISSING not in keywords.values()
