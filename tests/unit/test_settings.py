"""Documented default settings."""

from __future__ import annotations

import pytest

from fabric_nb import AmqBrokerConnector
from fabric_nb.cli.parser import command_parser
from fabric_nb.notebook.magics import FabricMagics


@pytest.mark.parametrize(
    ("setting", "default"),
    [("timeout", 30.0), ("progress_after", 2.0), ("presence", "thread"), ("max_rows", 1_000_000)],
)
def test_magics(setting: str, default: object) -> None:
    """Calls time out after 30 s, a progress line appears after 2 s; a thread sends keep-alives."""
    assert FabricMagics.class_traits()[setting].default() == default


async def test_calls_of_programs() -> None:
    """Calls of programs time out after 30 s too."""
    connector = AmqBrokerConnector("amqp://guest@localhost/", "d", "t", "i")
    assert connector.timeout == 30


def test_grace() -> None:
    """In-flight calls of a served notebook may take 30 s at the end."""
    assert command_parser().parse_args(["serve", "notebook.ipynb"]).grace == 30
