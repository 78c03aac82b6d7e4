// What stands around the rows: title, badges and facts, buttons and choices, filter, notes.

class HeadView {
  /**
   * @param send takes an action to the kernel
   * @param onFilter takes the words that rows must hold
   */
  constructor(send, onFilter) {
    this.send = send;
    this.onFilter = onFilter;
    this.waiting = new Map(); // request id -> the control that was used, and the timer that says so
    this.requests = 0;
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
      this.title, this.badges, this.facts, this.tools, this.filter, this.count, this.status,
    );
    this.answer = make("div", "answer", { role: "status" });
    this.notes = make("div", "notes");
    this.filter.addEventListener("input", () => this.onInput());
  }

  /** @param seen how many rows pass the filter, of how many */
  paint({ title, badges, facts, notes, tools }, seen, all) {
    setText(this.title, title);
    fill(this.badges, badges, () => make("span", "badge"), paintBadge);
    fill(this.facts, facts, () => make("span"), setText);
    fill(this.notes, notes, () => make("div"), setText);
    this.paintTools(tools);
    const of = this.filter.value.trim() ? `${grouped(seen)} of ` : "";
    setText(this.count, `${of}${grouped(all)} ${all === 1 ? "row" : "rows"}`);
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
        // Only when the kernel says otherwise, not while the user is choosing.
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
      button.addEventListener("click", () => this.request(name, null, button));
      return button;
    }
    const node = make("label", "tool");
    const select = make("select", "", { "aria-label": label });
    for (const option of options) select.append(new Option(option, option));
    select.addEventListener("change", () => this.request(name, select.value, select));
    node.append(label, " ", select);
    return node;
  }

  request(name, value, control) {
    if (control.hasAttribute("aria-busy")) return;
    control.setAttribute("aria-busy", "true");
    const request = (this.requests += 1);
    const timer = setTimeout(() => this.say("Waiting for the running cell.", false), 1000);
    this.waiting.set(request, { control, timer });
    this.send({ type: "action", request, name, value });
  }

  onAnswer({ request, error, text }) {
    const waiting = this.waiting.get(request);
    if (!waiting) return; // another view asked
    this.waiting.delete(request);
    clearTimeout(waiting.timer);
    waiting.control.removeAttribute("aria-busy");
    const chosen = waiting.control.parentNode?.dataset.value;
    if (error && chosen !== undefined) waiting.control.value = chosen;
    this.say(text, error);
  }

  say(text, error) {
    setText(this.answer, text);
    this.answer.classList.toggle("error", error);
  }

  onInput() {
    this.onFilter(this.filter.value.toLowerCase().split(/\s+/).filter(Boolean));
    clearTimeout(this.telling); // once, when typing pauses
    this.telling = setTimeout(() => setText(this.status, this.count.textContent), 500);
  }

  /** Empty the filter; false when it was. */
  clearFilter() {
    if (!this.filter.value) return false;
    this.filter.value = "";
    this.onInput();
    return true;
  }
}
