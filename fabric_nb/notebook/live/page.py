"""A live page under a cell: redrawn in the browser, which knows when the kernel is gone."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from fabric_nb.notebook.live.code import joined_script
from fabric_nb.notebook.live.widget import LiveWidget
from fabric_nb.notebook.pages import Page, saved

# As in `table.static`: the last state hides where the live page stands right above, and where that
# cannot come up its place hides.
STYLE = """<style>
.jp-OutputArea-child:has(.fabric-page)+.jp-OutputArea-child:has(.fabric-page-last),
.jp-OutputArea-child:has(>.lm-Panel.jp-OutputArea-output,>.jupyter-widgets)\
:not(:has(.fabric-page)):has(+.jp-OutputArea-child .fabric-page-last)
{display:none!important}
</style>"""


class PageWidget(LiveWidget):
    """A page on display; see `LiveWidget`.

    Args:
        page: what is shown first.
    """

    script = joined_script(Path(__file__).with_name("page.js"))
    style_sheet = """
.fabric-page .as-of { display: none; }
.fabric-page.lost .as-of { display: block; }
.fabric-page.lost .badge { background: #6b6b6b; color: #fff; }
"""

    def __init__(self, page: Page) -> None:
        self._page, self._drawn_at = page, time.time()
        self._changes = 0
        super().__init__()

    @property
    def changes(self) -> int:
        """Change counter."""
        return self._changes

    def change(self, page: Page) -> None:
        """Show another page soon."""
        self._page, self._drawn_at = page, time.time()
        self._changes += 1
        self.update()

    def encoded(self) -> str:
        """The page as JSON."""
        return json.dumps({"html": self._page.html(self._drawn_at)})

    def forms(self) -> dict[str, str]:
        """The last state as HTML and text."""
        html = saved(self._page, self._drawn_at).html()
        return {
            "text/html": f'{STYLE}<div class="fabric-page-last">{html}</div>',
            "text/plain": self._page.text(),
        }

    def send_news(self) -> None:
        """Send the page, if a browser shows it."""
        if self.attached:
            self.send_part("page", self.encoded().encode())

    def take(self, content: dict[str, Any]) -> None:
        """Take a view's greeting: send it the page of now."""
        match content:
            case {"type": "hello", "hides": bool(hides)}:
                self.attach(hides=hides)
                self._pacer.request()
