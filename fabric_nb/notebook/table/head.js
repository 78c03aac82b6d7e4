// Content around the rows: title, badges and facts, buttons and choices, filter, notes.

import { SVG, fill, make, setAttribute, setQuoted, setText } from "../live/dom.js";
import { paintBadge } from "./cells.js";
import { GraphView } from "./graph.js";

/** A sparkline. */
class ChartView {
  constructor() {
    this.node = make("figure", "chart");
    this.label = make("span");
    this.range = make("span", "range");
    this.svg = document.createElementNS(SVG, "svg");
    setAttribute(this.svg, "preserveAspectRatio", "none");
    setAttribute(this.svg, "aria-hidden", "true");
    this.path = document.createElementNS(SVG, "path");
    this.svg.append(this.path);
    const caption = make("figcaption");
    caption.append(this.label, this.range);
    this.node.append(caption, this.svg);
  }

  /** @param chart {label, range, line}, or null; line has heights from 0 to 100, null for a gap */
  paint(chart) {
    this.node.hidden = !chart;
    if (!chart) return;
    const { label, range, line } = chart;
    setText(this.label, label);
    setText(this.range, range);
    const steps = line.map((y, x) => (y === null ? "" : `${line[x - 1] == null ? "M" : "L"}${x} ${100 - y}`));
    setAttribute(this.svg, "viewBox", `0 0 ${Math.max(1, line.length - 1)} 100`);
    setAttribute(this.path, "d", steps.join(""));
  }
}

export class HeadView {
  /**
   * @param actions performs actions of buttons and choices
   * @param onFilter called with the text of the filter
   * @param tools further tools, each with `button` and `node`, a panel below
   */
  constructor(actions, onFilter, tools) {
    this.actions = actions;
    this.onFilter = onFilter;
    this.own = make("span", "tools own");
    this.own.append(...tools.map(({ button }) => button));
    this.panels = make("div", "panels");
    this.panels.append(...tools.map(({ node }) => node));
    this.node = make("div", "head");
    this.title = make("span", "title");
    this.badges = make("span", "badges");
    this.facts = make("span", "facts");
    this.tools = make("span", "tools");
    this.filter = make("input", "filter", {
      type: "search", placeholder: "Filter", "aria-label": "Filter rows", spellcheck: "false",
    });
    this.count = make("span", "count");
    this.status = make("span", "unseen", { role: "status" });
    this.node.append(
      this.title, this.badges, this.facts, this.tools, this.own, this.filter, this.count, this.status,
    );
    this.progress = make("progress", "", { max: "1", "aria-label": "Progress" });
    this.chart = new ChartView();
    this.graph = new GraphView();
    this.printed = make("pre", "printed", { tabindex: "0", "aria-label": "Printed" });
    this.answer = make("div", "answer", { role: "status" });
    this.notes = make("div", "notes");
    this.lost = null; // badge that replaces the others while there is no kernel
    this.filter.addEventListener("input", () => this.onInput());
  }

  /** @param count number of rows, as text */
  paint({ title, badges, facts, notes, tools, progress, chart, graph, printed }, count) {
    setText(this.title, title);
    const states = this.lost ? [this.lost] : badges;
    fill(this.badges, states, () => make("span", "badge"), paintBadge);
    this.progress.hidden = progress == null;
    this.progress.value = progress ?? 0;
    this.chart.paint(chart);
    this.graph.paint(graph);
    this.paintPrinted(printed);
    fill(this.facts, facts, () => make("span"), setText);
    fill(this.notes, notes, () => make("div"), setQuoted);
    this.paintTools(tools);
    setText(this.count, count);
  }

  paintPrinted(text) {
    this.printed.hidden = !text;
    if (this.printed.textContent === text) return;
    const { scrollTop, clientHeight, scrollHeight } = this.printed;
    const atEnd = scrollTop + clientHeight >= scrollHeight - 4;
    setText(this.printed, text);
    if (atEnd) this.printed.scrollTop = this.printed.scrollHeight;
  }

  paintTools(tools) {
    const kinds = JSON.stringify(tools.map(({ name, options }) => [name, options]));
    if (kinds !== this.kinds) {
      this.kinds = kinds;
      this.tools.replaceChildren(...tools.map((tool) => this.makeTool(tool)));
    }
    tools.forEach(({ label, options, pressed, value }, index) => {
      const node = this.tools.children[index];
      if (options) {
        // Only if the kernel changes the value, not while the user is choosing.
        if (node.dataset.value !== value) node.lastChild.value = node.dataset.value = value;
        return;
      }
      setText(node, label);
      if (pressed !== null) setAttribute(node, "aria-pressed", String(pressed));
    });
  }

  makeTool({ name, label, options }) {
    if (!options) {
      const button = make("button", "tool", { type: "button" });
      button.addEventListener("click", () => this.actions.request(name, null, button, this.showAnswer));
      return button;
    }
    const node = make("label", "tool");
    const undo = () => { select.value = node.dataset.value; };
    const select = make("select", "", { "aria-label": label });
    for (const option of options) select.append(new Option(option, option));
    select.addEventListener("change", () => this.actions.request(name, select.value, select, this.showAnswer, undo));
    node.append(label, " ", select);
    return node;
  }

  showAnswer = (text, error) => {
    setText(this.answer, text);
    this.answer.classList.toggle("error", error);
  };

  onInput() {
    this.onFilter(this.filter.value);
    clearTimeout(this.statusTimer); // announced to screen readers when typing pauses
    this.statusTimer = setTimeout(() => setText(this.status, this.count.textContent), 500);
  }

  /** Clear the filter; false if it was empty. */
  clearFilter() {
    if (!this.filter.value) return false;
    this.filter.value = "";
    this.onInput();
    return true;
  }
}
