// Form that connects: recent brokers, URI, domain and password, and the domains on the broker.

import { make, setText } from "../live/dom.js";

export class ConnectForm {
  /**
   * @param ask requests `name` with texts by field from the kernel; resolves to its answer
   * @param insert writes and runs the cell {line, uri, domain}; resolves to a text to show
   */
  constructor(ask, insert) {
    Object.assign(this, { ask, insert });
    this.node = make("form", "fabric-connect", { "aria-label": "Connect to a broker" });
    const title = make("div", "title");
    setText(title, "Connect to a broker");
    this.recent = make("div", "choices", { role: "group", "aria-label": "Recent brokers" });
    this.uri = this.makeField("Broker", "uri", "amqp://user@host:5672/");
    this.password = this.makeField("Password", "password", "keyring, or asked for in the cell", "password");
    this.domain = this.makeField("Domain", "domain", "my_project");
    this.domain.title = "The group of services to join: services of one domain find each other by short names.";
    this.domains = make("div", "choices", { role: "group", "aria-label": "Domains" });
    this.answer = make("div", "answer", { role: "status" });
    const buttons = make("div", "buttons");
    this.connect = this.makeButton(buttons, "Connect to this broker", "submit");
    this.list = this.makeButton(buttons, "List domains", "button");
    this.node.prepend(title, this.recent);
    this.node.append(buttons, this.domains, this.answer);
    this.recent.hidden = this.domains.hidden = true;
    this.list.addEventListener("click", () => this.request("domains", this.list, (found) => this.showDomains(found)));
    this.node.addEventListener("submit", (event) => {
      event.preventDefault();
      this.request("cell", this.connect, async (cell) => this.showAnswer(await this.insert(cell)));
    });
    for (const input of [this.uri, this.domain, this.password]) {
      input.addEventListener("keydown", (event) => event.stopPropagation()); // not a shortcut of the notebook
    }
  }

  async request(name, button, done) {
    if (button.hasAttribute("aria-busy")) return;
    button.setAttribute("aria-busy", "true");
    this.showAnswer(name === "domains" ? "Listening for services …" : "");
    const values = { uri: this.uri.value, domain: this.domain.value, password: this.password.value };
    try {
      await done(await this.ask(name, values));
    } catch (error) {
      this.showAnswer(error.message, true);
    } finally {
      button.removeAttribute("aria-busy");
    }
  }

  async showRecent() {
    let found;
    try {
      found = await this.ask("recent", {});
    } catch {
      return; // without a kernel
    }
    const { brokers, flaw } = found;
    this.fillChoices(this.recent, brokers, ({ uri, domain }) => [uri, domain], ({ uri, domain }) => {
      this.uri.value = uri;
      this.domain.value = domain;
      this.connect.focus();
    });
    if (flaw) this.showAnswer(flaw, true);
  }

  showDomains({ uri, domains, note }) {
    this.uri.value = uri; // without the password, which the kernel keeps
    const services = (count) => `${count} ${count === 1 ? "service" : "services"}`;
    this.fillChoices(this.domains, domains, ([name, count]) => [name, services(count)], ([name]) => {
      this.domain.value = name;
      this.connect.focus();
    });
    this.showAnswer(note);
  }

  /** Show a button with a name and a remark for each item. */
  fillChoices(parent, items, texts, choose) {
    parent.hidden = items.length === 0;
    const label = make("span", "remark", { "aria-hidden": "true" });
    setText(label, parent.getAttribute("aria-label"));
    parent.replaceChildren(label, ...items.map((item) => {
      const button = make("button", "choice", { type: "button" });
      const [name, remark] = texts(item).map((text) => {
        const node = make("span");
        setText(node, text);
        return node;
      });
      remark.className = "remark";
      button.append(name, " ", remark);
      button.addEventListener("click", () => choose(item));
      return button;
    }));
  }

  showAnswer(text, error = false) {
    setText(this.answer, text);
    this.answer.classList.toggle("error", error);
  }

  makeField(label, name, placeholder, type = "text") {
    const field = make("label", "field");
    const text = make("span");
    setText(text, label);
    const input = make("input", "", { type, name, placeholder, spellcheck: "false", autocomplete: "off" });
    input.required = name === "uri";
    field.append(text, input);
    this.node.append(field);
    return input;
  }

  makeButton(parent, label, type) {
    const button = make("button", type === "submit" ? "tool main" : "tool", { type });
    setText(button, label);
    parent.append(button);
    return button;
  }
}
