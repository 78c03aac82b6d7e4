"""The keywords of the connector's methods are the fields of their option classes."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import MISSING, fields
from typing import Any

import pytest

from fabric_nb import AmqBrokerConnector, MapOptions, RemoteMethod, ServeOptions, StreamOptions
from fabric_nb.cli.parser import command_parser
from fabric_nb.fabric.rpc.bench_options import BenchOptions
from fabric_nb.notebook.magics import FabricMagics
from fabric_nb.notebook.options import read_options

CASES = [
    (AmqBrokerConnector.serve, ServeOptions, {"type", "id", "replacing"}, set()),
    (AmqBrokerConnector.stream, StreamOptions, {"domain"}, set()),
    (AmqBrokerConnector.map, MapOptions, set(), set()),
    (AmqBrokerConnector.map_stream, MapOptions, set(), {"spread"}),
    (AmqBrokerConnector.bench, BenchOptions, set(), set()),
    (
        RemoteMethod.map,
        MapOptions,
        set(),
        {"timeout", "version", "idempotent", "cancel_on_timeout"},
    ),
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


def test_options_of_the_magic_have_the_same_defaults() -> None:
    """A map by magic without options has those of `fabric.map`, each of which can be given."""
    parser = FabricMagics.fabric_map.parser
    assert read_options(MapOptions, parser.parse_args(["pricing.quote"])) == MapOptions()
    line = "m --in-flight 3 -t 5 -v >=1 -i --no-cancel --retries 2 --on-error raise --no-spread"
    given = parser.parse_args(line.split())
    assert read_options(MapOptions, given) == MapOptions(
        in_flight=3,
        timeout=5,
        version=">=1",
        idempotent=True,
        cancel_on_timeout=False,
        retries=2,
        on_error="raise",
        spread=False,
    )


def test_options_of_a_benchmark_have_the_same_defaults() -> None:
    """A benchmark by magic or command has the options of `fabric.bench`, and its defaults."""
    magic = FabricMagics.fabric_bench.parser
    given = BenchOptions(
        in_flight=3, seconds=5, rate=20, warmup=0, timeout=2, version=">=1", repeatable=True
    )
    line = [
        "--in-flight=3",
        "--seconds=5",
        "--rate=20",
        "--warmup=0",
        "-t",
        "2",
        "--version",
        ">=1",
        "-y",
    ]
    for parser, command in ((magic, ["a.b"]), (command_parser(), ["bench", "a.b"])):
        assert read_options(BenchOptions, parser.parse_args(command)) == BenchOptions()
        assert read_options(BenchOptions, parser.parse_args([*command, *line])) == given
        counted = read_options(BenchOptions, parser.parse_args([*command, "-n", "7"]))
        assert counted == BenchOptions(calls=7)
