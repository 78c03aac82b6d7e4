// A form: input fields, buttons, and the answer.

import { make, setText } from "../live/dom.js";
import { expression, expressions } from "./python.js";

export const MORE = "**"; // name of the field for further values by name
const HINT = 'Values are JSON or Python literals, as in 5, "text" or [1, 2].';
// Texts that an input of the kind accepts; it drops others.
const PICKED = { date: /^(\d{4}-\d\d-\d\d)?$/, time: /^(\d\d:\d\d(:\d\d)?)?$/ };
let hints = 0; // for unique ids

export class FormView {
  /**
   * @param form {name, fields: [[name, hint, required, value, kind, choices]], submit}
   * @param actions performs the action of the form
   * @param tools further buttons, each {label, run}
   */
  constructor({ name, fields, submit }, actions, tools = []) {
    this.node = make("form");
    this.answer = make("pre", "answer", { role: "status" });
    this.inputs = fields.map((field) => this.makeField(field));
    if (this.inputs.some(({ dataset, tagName }) => !dataset.kind && tagName === "INPUT")) this.makeHint();
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

  /** Pairs of name and Python expression of the fields that were filled in. */
  get expressions() {
    const filled = this.inputs.filter(({ value }) => value.trim());
    return filled.flatMap(({ name, value, dataset }) =>
      name === MORE ? expressions(value) : [[name, expression(value.trim(), dataset.kind)]],
    );
  }

  /** Show a text below the form; an error that is about a field is shown at the field. */
  showAnswer = (text, error, _, field = "") => {
    const wrong = error ? this.inputs.find(({ name }) => name === field) : undefined;
    for (const input of this.inputs) markInput(input, input === wrong ? text : "");
    setText(this.answer, wrong ? "" : text);
    this.answer.classList.toggle("error", error);
    wrong?.focus();
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

  makeField([name, hint, required, value = "", kind = "", choices = []]) {
    const node = make("label", "field");
    const input = choices.length ? makeChoice(hint, choices) : makeInput(hint, value, kind);
    input.name = name;
    input.required = required;
    input.value = value;
    input.dataset.kind = kind;
    const text = make("span");
    setText(text, name === MORE ? "further" : name);
    node.append(text, input);
    this.node.append(node);
    return input;
  }
}

/** Show what is wrong with the text of a field; nothing if `problem` is empty. */
function markInput(input, problem) {
  if (!problem && !input.hasAttribute("aria-invalid")) return;
  const node = input.parentNode;
  if (!node.querySelector(".problem")) node.append(make("span", "problem", { role: "alert" }));
  setText(node.querySelector(".problem"), problem);
  if (problem) input.setAttribute("aria-invalid", "true");
  else input.removeAttribute("aria-invalid");
}

function makeInput(hint, value, kind) {
  const isPicked = PICKED[kind]?.test(value || "") ?? false;
  if (isPicked) return make("input", "", { type: kind, title: hint });
  const input = make("input", "", { type: "text", placeholder: hint, spellcheck: "false", autocomplete: "off" });
  // Wide enough for its placeholder and value.
  input.style.width = `calc(${Math.min(40, Math.max(12, hint.length, value.length))}ch + 22px)`;
  return input;
}

function makeChoice(hint, choices) {
  const select = make("select");
  for (const [value, label] of [["", hint], ...choices.map((choice) => [choice, choice])]) {
    const option = make("option", "", { value });
    setText(option, label);
    select.append(option);
  }
  return select;
}
