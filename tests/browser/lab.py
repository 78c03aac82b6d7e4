"""An isolated JupyterLab, and notebooks in it, controlled through a browser.

    async with await Lab.start(folder) as lab:
        notebook = await LabNotebook.open(page, lab)
        await notebook.run("x = 1")
        await notebook.execute("x = 2")          # in its kernel, without a cell

The environment variable `CHROMIUM` is the browser's executable; the default is Debian's.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import sys
import uuid
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nbformat
from playwright.async_api import async_playwright, expect

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from typing import Self

    from playwright.async_api import Browser, Locator, Page

CHROMIUM = os.environ.get("CHROMIUM", "/usr/bin/chromium")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"]
START_TIMEOUT = 60.0
LIMIT = 60_000
"""Milliseconds after which a condition of a page is given up; beyond what a busy machine needs."""
expect.set_options(timeout=LIMIT)
NO_SPLASH = "() => document.getElementById('jupyterlab-splash') === null"
"""JupyterLab shows a splash screen at its start and while a theme loads. It removes it twice, the
second time with a `NotFoundError`, if another theme is requested in the 200 ms of its fading."""


class Lab:
    """A running JupyterLab with its own folders and settings.

    Attributes:
        url: base URL.
        root: root folder of its contents.
    """

    def __init__(self, process: asyncio.subprocess.Process, root: Path, log: Path) -> None:
        self.url = ""
        self.root = root
        self._process = process
        self._log = log

    @classmethod
    async def start(
        cls, folder: Path, program: str = "jupyterlab", *arguments: str, browser: str = ""
    ) -> Self:
        """Start JupyterLab on a free local port, without a token.

        Args:
            folder: folder for its files; contents are in its subfolder `root`.
            program: module to run; `notebook` is Notebook 7.
            arguments: arguments of the program.
            browser: command of the browser to open; empty for none.
        """
        root = folder / "root"
        root.mkdir(parents=True, exist_ok=True)
        log = folder / "lab.log"
        settings = {
            "ServerApp": {
                "ip": "127.0.0.1",
                "port": 0,
                "open_browser": bool(browser),
                "browser": browser,
                "root_dir": str(root),
                "allow_root": True,
                "disable_check_xsrf": True,
            },
            "IdentityProvider": {"token": ""},
            "LabApp": {
                "expose_app_in_browser": True,
                "news_url": None,
                "workspaces_dir": str(folder / "workspaces"),
                "user_settings_dir": str(folder / "settings"),
            },
            "JupyterNotebookApp": {"expose_app_in_browser": True},
        }
        config = folder / "config" / "jupyter_config.json"
        config.parent.mkdir()
        config.write_text(json.dumps(settings))
        _write_setting(folder, "apputils-extension", "notification", {"fetchNews": "false"})
        # If it is saved at the same time as by a test, JupyterLab asks what to do with the file.
        _write_setting(folder, "docmanager-extension", "plugin", {"autosave": False})
        with log.open("wb") as output:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", program, *arguments),
                env=_environment(folder),
                cwd=root,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        lab = cls(process, root, log)
        try:
            lab.url = await lab._announced()
        except BaseException:
            await lab.close()
            raise
        return lab

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    @property
    def pid(self) -> int:
        """Id of the process."""
        return self._process.pid

    @property
    def log(self) -> str:
        """Output of the server."""
        return self._log.read_text(errors="replace")

    async def close(self) -> None:
        """Stop the server and its kernels."""
        if self._process.returncode is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                await asyncio.wait_for(self._process.wait(), 10)
            except TimeoutError:
                self._process.kill()
                await self._process.wait()

    async def _announced(self) -> str:
        async with asyncio.timeout(START_TIMEOUT):
            while not (found := re.search(r"http://127\.0\.0\.1:(\d+)/(?:lab|tree)", self.log)):
                if self._process.returncode is not None:
                    raise RuntimeError(f"JupyterLab did not start:\n{self.log}")
                await asyncio.sleep(0.1)  # there is no event for a line of a log
        return f"http://127.0.0.1:{found[1]}"


class LabNotebook:
    """An open notebook in JupyterLab."""

    def __init__(self, page: Page, path: Path) -> None:
        self.page = page
        self.path = path
        self.panel: Locator = page.locator(".jp-NotebookPanel:not(.lm-mod-hidden)")

    @classmethod
    async def open(cls, page: Page, lab: Lab) -> Self:
        """Open a new notebook with one cell, and wait for its kernel."""
        return await cls.reopen(page, cls.write(lab))

    @staticmethod
    def write(lab: Lab) -> Path:
        """Write a new notebook with one cell and return its path."""
        path = lab.root / f"{uuid.uuid4().hex[:8]}.ipynb"
        notebook = nbformat.v4.new_notebook(
            cells=[nbformat.v4.new_code_cell()],
            metadata={"kernelspec": {"name": "python3", "display_name": "", "language": "python"}},
        )
        nbformat.write(notebook, path)
        return path

    @classmethod
    async def reopen(cls, page: Page, path: Path) -> Self:
        """Open an existing notebook with a new kernel."""
        await page.evaluate(
            """async (path) => {
              const { commands, restored } = jupyterapp;
              await restored;
              const panel = await commands.execute("docmanager:open", { path });
              await panel.context.ready;
              await panel.revealed;
              await panel.sessionContext.ready;
              await panel.sessionContext.session.kernel.info;
            }""",
            path.name,
        )
        return cls(page, path)

    async def run(self, code: str) -> None:
        """Set the source of the first cell, run it and wait for its end."""
        await self._run(code, awaited=True)

    async def start(self, code: str) -> None:
        """Set the source of the first cell and start it."""
        await self._run(code, awaited=False)

    async def _run(self, code: str, *, awaited: bool) -> None:
        await self.page.evaluate(
            """async ([code, awaited]) => {
              const notebook = jupyterapp.shell.currentWidget.content;
              notebook.activeCellIndex = 0;
              notebook.activeCell.model.sharedModel.setSource(code);
              const run = jupyterapp.commands.execute("notebook:run-cell");
              if (awaited) await run;
            }""",
            [code, awaited],
        )

    async def interrupt(self) -> None:
        """Interrupt the kernel."""
        await self.page.evaluate(
            "() => jupyterapp.shell.currentWidget.sessionContext.session.kernel.interrupt()"
        )

    async def execute(self, code: str) -> None:
        """Run code in the kernel without a cell; it must succeed."""
        reply = await self._request(code, {})
        assert reply["status"] == "ok", "\n".join(reply.get("traceback", []))

    async def value(self, expression: str) -> str:
        """Return the text of an expression's value in the kernel."""
        reply = await self._request("", {"value": expression})
        value = reply["user_expressions"]["value"]
        assert value["status"] == "ok", value
        return str(value["data"]["text/plain"])

    async def _request(self, code: str, expressions: dict[str, str]) -> dict[str, Any]:
        reply: dict[str, Any] = await self.page.evaluate(
            """async ([code, user_expressions]) => {
              const kernel = jupyterapp.shell.currentWidget.sessionContext.session.kernel;
              const reply = await kernel.requestExecute({ code, user_expressions }).done;
              return reply.content;
            }""",
            [code, expressions],
        )
        return reply

    async def save(self) -> None:
        """Save the notebook."""
        await self.page.evaluate("() => jupyterapp.shell.currentWidget.context.save()")

    async def close(self) -> None:
        """Close the notebook without saving, and shut down its kernel."""
        await self.page.evaluate(
            """async () => {
              const panel = jupyterapp.shell.currentWidget;
              await panel.sessionContext.shutdown();
              panel.dispose();
            }"""
        )


@asynccontextmanager
async def open_browser() -> AsyncIterator[Browser]:
    """Start a browser without a window."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        await browser.close()


async def new_page(browser: Browser) -> Page:
    """Open a page with a context of its own."""
    page = await browser.new_page(viewport={"width": 1200, "height": 900})
    page.set_default_timeout(LIMIT)
    return page


async def wait_for_lab(page: Page) -> None:
    """Wait until JupyterLab is ready, and collapse its file browser."""
    await page.wait_for_function("() => window.jupyterapp !== undefined")
    await page.evaluate(
        """async () => {
          await jupyterapp.restored;
          jupyterapp.shell.collapseLeft();
        }"""
    )


async def set_theme(page: Page, theme: str) -> None:
    """Change the theme and wait until it is loaded."""
    await page.wait_for_function(NO_SPLASH)
    await page.evaluate(
        "(theme) => jupyterapp.commands.execute('apputils:change-theme', { theme })", theme
    )
    await page.wait_for_function(
        "(theme) => document.body.dataset.jpThemeName === theme", arg=theme
    )
    await page.wait_for_function(NO_SPLASH)


def _write_setting(folder: Path, extension: str, plugin: str, setting: dict[str, Any]) -> None:
    path = folder / "settings" / "@jupyterlab" / extension / f"{plugin}.jupyterlab-settings"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(setting))


def _environment(folder: Path) -> dict[str, str]:
    own = {
        "PYTHONPATH": Path(__file__).parents[2],  # kernels import the tests' scenes
        "IPYTHONDIR": folder / "ipython",
        "JUPYTER_CONFIG_DIR": folder / "config",
        "JUPYTER_DATA_DIR": folder / "data",
        "JUPYTER_RUNTIME_DIR": folder / "runtime",
        "FABRIC_NB_RUNTIME_DIR": folder / "fabric",
        "FABRIC_NB_STATE_DIR": folder / "state",
    }
    return os.environ | {name: str(value) for name, value in own.items()}
