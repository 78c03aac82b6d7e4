"""Widget for a live page; the browser marks it when the kernel is gone."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from fabric_nb.notebook.live.code import joined_script
from fabric_nb.notebook.live.widget import LiveWidget
from fabric_nb.notebook.pages import COLOURS, Page, saved

# See `table.static.STYLE`.
STYLE = """<style>
.jp-OutputArea-child:has(.fabric-page)+.jp-OutputArea-child:has(.fabric-page-last),
.jp-OutputArea-child:has(>.lm-Panel.jp-OutputArea-output,>.jupyter-widgets)\
:not(:has(.fabric-page)):has(+.jp-OutputArea-child .fabric-page-last)
{display:none!important}
</style>"""


class PageWidget(LiveWidget):
    """A live page; see `LiveWidget`.

    Args:
        page: initial page.
    """

    script = joined_script(Path(__file__).with_name("page.js"))
    style_sheet = f"""
.fabric-page .as-of {{ display: none; }}
.fabric-page.lost .as-of {{ display: block; }}
.fabric-page.lost .badge {{ background: {COLOURS["quiet"]}; }}
"""

    def __init__(self, page: Page) -> None:
        self._page, self._changed_at = page, time.time()
        self._changes = 0
        super().__init__()

    @property
    def changes(self) -> int:
        """Number of changes."""
        return self._changes

    def change(self, page: Page) -> None:
        """Replace the page and schedule an update."""
        self._page, self._changed_at = page, time.time()
        self._changes += 1
        self.update()

    def encoded(self) -> str:
        """Return the page as JSON."""
        return json.dumps({"html": self._page.html(self._changed_at)})

    def forms(self) -> dict[str, str]:
        """Return the static copy as HTML and text."""
        html = saved(self._page, self._changed_at).html()
        return {
            "text/html": f'{STYLE}<div class="fabric-page-last">{html}</div>',
            "text/plain": self._page.text(),
        }

    def send_changes(self) -> None:
        """Send the page, if a browser displays it."""
        if self.attached:
            self.send_buffer("page", self.encoded().encode())

    def on_message(self, content: dict[str, Any]) -> None:
        """Handle the ``hello`` of a view by sending the current page."""
        match content:
            case {"type": "hello", "hides": bool(hides)}:
                self.attach(hides=hides)
                self._pacer.request()
