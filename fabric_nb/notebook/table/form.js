// A form: input fields, buttons, and the answer.

import { make, setText } from "../live/dom.js";

export const MORE = "**"; // name of the field for further values by name
const HINT = 'Values are JSON or Python literals, as in 5, "text" or [1, 2].';
let hints = 0; // for unique ids

export class FormView {
  /**
   * @param form {name, fields: [[name, hint, required, value]], submit}
   * @param actions performs the action of the form
   * @param tools further buttons, each {label, run}
   */
  constructor({ name, fields, submit }, actions, tools = []) {
    this.node = make("form");
    this.answer = make("pre", "answer", { role: "status" });
    this.inputs = fields.map((field) => this.makeField(field));
    if (fields.length) this.makeHint();
    if (submit) {
      const button = this.makeButton(submit, "submit");
      this.node.addEventListener("submit", (event) => {
        event.preventDefault();
        this.showAnswer("", false);
        actions.request(name, Object.fromEntries(this.values), button, this.showAnswer);
      });
    }
    for (const { label, run } of tools) this.makeButton(label, "button").addEventListener("click", run);
    this.node.append(this.answer);
  }

  /** Pairs of name and text of the fields that were filled in. */
  get values() {
    const filled = this.inputs.filter(({ value }) => value.trim());
    return filled.map(({ name, value }) => [name, value.trim()]);
  }

  showAnswer = (text, error) => {
    setText(this.answer, text);
    this.answer.classList.toggle("error", error);
  };

  makeButton(label, type) {
    const button = make("button", "tool", { type });
    setText(button, label);
    this.node.append(button);
    return button;
  }

  makeHint() {
    const node = make("div", "hint", { id: `fabric-hint-${(hints += 1)}` });
    setText(node, HINT);
    for (const input of this.inputs) input.setAttribute("aria-describedby", node.id);
    this.node.append(node);
  }

  makeField([name, hint, required, value = ""]) {
    const node = make("label", "field");
    const input = make("input", "", { type: "text", name, placeholder: hint, spellcheck: "false", autocomplete: "off" });
    input.required = required;
    input.value = value;
    // Wide enough for its placeholder and value.
    input.style.width = `calc(${Math.min(40, Math.max(12, hint.length, value.length))}ch + 22px)`;
    const text = make("span");
    setText(text, name === MORE ? "further" : name);
    node.append(text, input);
    this.node.append(node);
    return input;
  }
}
