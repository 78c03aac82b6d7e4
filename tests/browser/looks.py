"""Checks of rendering: contrast of texts, and pixels of a chart."""

from __future__ import annotations

from playwright.async_api import Locator

POOR_CONTRAST = """(root) => {
  // Texts with insufficient contrast to their background, by WCAG 2.
  const paint = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const parse = (color) => {
    paint.clearRect(0, 0, 1, 1);
    paint.fillStyle = color;
    paint.fillRect(0, 0, 1, 1);
    return [...paint.getImageData(0, 0, 1, 1).data];
  };
  const light = (rgb) => {
    const linear = (c) => c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
    const [r, g, b] = rgb.slice(0, 3).map((c) => linear(c / 255));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ground = (node) => {
    for (let at = node; at; at = at.parentElement) {
      const color = parse(getComputedStyle(at).backgroundColor);
      if (color[3] === 255) return color;
    }
    return [255, 255, 255];
  };
  const poor = [];
  for (const node of root.querySelectorAll("*")) {
    if (![...node.childNodes].some((child) => child.nodeType === 3 && child.data.trim())) continue;
    const [ink, under] = [parse(getComputedStyle(node).color), ground(node)];
    const seen = ink.map((c, i) => (c * ink[3] + under[i] * (255 - ink[3])) / 255);
    const [a, b] = [light(seen), light(under)];
    const contrast = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (contrast < 4.5) poor.push(`${contrast.toFixed(1)}: ${node.className} ${node.textContent}`);
  }
  return poor;
}"""
"""Function that returns the texts with insufficient contrast to their background."""
DRAWN = """(canvas) => {
  const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
  const seen = {};
  for (let i = 0; i < data.length; i += 4) {
    if (data[i + 3] < 250) continue;
    const colour = `${data[i]},${data[i + 1]},${data[i + 2]}`;
    seen[colour] = (seen[colour] ?? 0) + 1;
  }
  return seen;
}"""
"""Function that counts the opaque pixels by colour."""
BLUE, ORANGE = "47,127,214", "210,105,30"
"""Colours of the first two lines of a chart."""


async def painted(chart: Locator, colour: str) -> int:
    """Wait until there are pixels of a colour, and return their number."""
    for _ in range(200):
        seen = await chart.locator("canvas").evaluate(DRAWN)
        if colour in seen:
            return int(seen[colour])
        await chart.page.wait_for_timeout(50)
    raise AssertionError(f"no pixel of {colour} within 10 s")
