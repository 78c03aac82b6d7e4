"""The keywords of the connector's methods are the fields of their option classes."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import MISSING, fields
from typing import Any

import pytest

from fabric_nb import AmqBrokerConnector, ServeOptions, StreamOptions

CASES = [
    (AmqBrokerConnector.serve, ServeOptions, {"type", "id", "replacing"}),
    (AmqBrokerConnector.stream, StreamOptions, {"domain"}),
]


@pytest.mark.parametrize(("method", "options", "more"), CASES)
def test_keywords_are_the_options(
    method: Callable[..., Any], options: type[Any], more: set[str]
) -> None:
    """Each option is a keyword with the same default, and there are no other ones."""
    keywords = {
        name: parameter.default
        for name, parameter in inspect.signature(method).parameters.items()
        if parameter.kind is parameter.KEYWORD_ONLY and name not in more
    }
    assert keywords == {field.name: field.default for field in fields(options)}
    assert MISSING not in keywords.values()
