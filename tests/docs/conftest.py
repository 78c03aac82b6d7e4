"""Execution of the notebooks beside the demo's services, as in `make lab`."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest

from fabric_nb.demo.broker import demo_broker
from fabric_nb.demo.services import demo_services
from tests.docs import notebooks
from tests.support.rabbitmq import RabbitMq

UNSET = ("AMQP_URL", "SERVICE_DOMAIN", "SERVICE_TYPE", "SERVICE_ID", "RABBITMQ_KILL")


@pytest.fixture(scope="module")
def runs(
    request: pytest.FixtureRequest, rabbitmq: RabbitMq, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[notebooks.Runs]:
    """Start the notebooks of the selected tests, and yield their futures.

    Notebooks that use the demo's services run one after another, because they share a domain.
    Notebooks that start their own services run beside them.
    """
    selected = [
        item.callspec.params["path"]
        for item in request.session.items
        if isinstance(item, pytest.Function) and "runs" in item.fixturenames
    ]
    with pytest.MonkeyPatch.context() as patch:
        for name in UNSET:
            patch.delenv(name, raising=False)
        patch.setenv("FABRIC_NB_RUNTIME_DIR", str(tmp_path_factory.mktemp("run")))
        patch.setenv("RABBITMQ_URL", f"amqp://127.0.0.1:{rabbitmq.port}/")
        patch.setenv("RABBITMQ_API", rabbitmq.management_uri)
        with (
            demo_broker() as broker,
            demo_services(broker.uri),
            _one_process() as with_demo,
            _one_process() as alone,
        ):
            yield {
                path: (with_demo if _uses_demo(path) else alone).submit(notebooks.run, path)
                for path in selected
            }


def _one_process() -> ProcessPoolExecutor:
    return ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn"))


def _uses_demo(path: Path) -> bool:
    return "--domain demo" in path.read_text(encoding="utf-8")
