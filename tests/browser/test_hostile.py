"""Messages of a hostile peer in JupyterLab."""

from __future__ import annotations

import json

from playwright.async_api import expect

from tests.broker.process import BrokerProcess
from tests.browser.lab import LabNotebook
from tests.faults import hostile as tricks
from tests.faults.hostile import BIDI_TEXT, MARKUP, TERMINAL_CODES, Hostile
from tests.support.peers import DOMAIN

EVERYTHING = MARKUP + TERMINAL_CODES + BIDI_TEXT


async def test_markup_of_a_peer_stays_text(notebook: LabNotebook) -> None:
    """Markup in signatures, data, logs and errors is shown as text, and not executed."""
    fail = tricks.error("builtins.ValueError", EVERYTHING, message=EVERYTHING, traceback=EVERYTHING)
    with BrokerProcess() as broker:
        await notebook.run(
            f"%load_ext fabric_nb\n%fabric_connect {broker.uri} --domain {DOMAIN}\n"
            "s = %fabric_stream\nl = %fabric_logs\n%fabric_services"
        )
        async with Hostile.on(broker.uri) as hostile:
            await hostile.serve({"fail": lambda _: fail})
            await hostile.announce(version=MARKUP, methods={"fail": f"(x={MARKUP!r})"})
            await hostile.data(json.dumps({EVERYTHING: EVERYTHING, "n": 1}).encode())
            await hostile.log(EVERYTHING, traceback=EVERYTHING, logger_name=MARKUP, service_id="x")
            outputs = notebook.panel.locator(".jp-OutputArea-output")
            for seen in ("fail", "gpj.exe", "ERROR"):  # a service, the data, the log
                await expect(outputs.filter(has_text=seen).first).to_be_attached()
            await inert(notebook)
            await notebook.run("s.df\n%fabric_call app.evil.fail")
            await expect(outputs.filter(has_text="RemoteError").first).to_be_visible()
            await inert(notebook)
        await notebook.execute("%fabric_disconnect\n%unload_ext fabric_nb")
    await notebook.run("")


async def inert(notebook: LabNotebook) -> None:
    """Check that markup created no elements and no script was executed."""
    assert await notebook.panel.locator(".jp-OutputArea img, .jp-OutputArea script").count() == 0
    assert await notebook.page.evaluate("() => window.hacked") is None
    text = await notebook.panel.locator(".jp-OutputArea").first.inner_text()
    assert "\u202e" not in text
