"""The defaults that are promised."""

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
    """A call may take 30 s, and after two it is said what is awaited; presence is the thread's."""
    assert FabricMagics.class_traits()[setting].default() == default


async def test_calls_of_programs() -> None:
    """In a program, too, a call may take 30 s."""
    connector = AmqBrokerConnector("amqp://guest@localhost/", "d", "t", "i")
    assert connector.timeout == 30


def test_grace() -> None:
    """A notebook that is served has 30 s to end in-flight calls."""
    assert command_parser().parse_args(["serve", "notebook.ipynb"]).grace == 30
