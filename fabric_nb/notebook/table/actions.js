// Actions of the user that the kernel performs, with progress, cancellation and answers.

import { make, setText } from "../live/dom.js";

const LOST = "The kernel of this table is gone. Run the cell again.";

export class Actions {
  /** @param send sends a message to the kernel */
  constructor(send) {
    this.send = send;
    this.pending = new Map(); // request id -> {control, showAnswer, undo, cancel, begun, progress, seconds, timer}
    this.requests = Math.floor(Math.random() * 2 ** 30); // random, as views of a table share answers
    this.lost = false;
  }

  /**
   * @param control element that was used; marked as busy until the answer arrives
   * @param showAnswer shows a text; its second argument is true for an error, its third for the answer,
   * which no progress follows, and its fourth the name of the field that the error is about
   * @param undo called if the action fails
   */
  request(name, value, control, showAnswer, undo = () => {}) {
    if (control.hasAttribute("aria-busy")) return;
    if (this.lost) {
      undo();
      showAnswer(LOST, true);
      return;
    }
    control.setAttribute("aria-busy", "true");
    const request = (this.requests += 1);
    const cancel = make("button", "tool cancel", { type: "button" });
    cancel.addEventListener("click", () => this.send({ type: "cancel", request }));
    const pending = { control, showAnswer, undo, cancel, begun: false, progress: "Running.", seconds: 0 };
    pending.timer = setInterval(() => this.tick(pending), 1000);
    this.pending.set(request, pending);
    this.send({ type: "action", request, name, value });
  }

  /** Show progress and a cancel button, once a second. */
  tick(pending) {
    const { control, showAnswer, cancel, begun, progress } = pending;
    pending.seconds += 1;
    showAnswer(begun ? progress : "Waiting for the running cell.", false);
    setText(cancel, `Cancel · ${pending.seconds} s`);
    if (!cancel.isConnected) control.after(cancel);
  }

  /** Handle the start of an action in the kernel. */
  onBegun({ request }) {
    const pending = this.pending.get(request);
    if (pending) pending.begun = true;
  }

  /** Show the progress of an action that has begun. */
  onProgress({ request, text }) {
    const pending = this.pending.get(request);
    if (!pending) return;
    pending.progress = text || "Running.";
    if (pending.seconds) pending.showAnswer(pending.progress, false);
  }

  onAnswer({ request, error, text, field }) {
    const pending = this.pending.get(request);
    if (!pending) return; // of another view
    this.settle(request, text, error, field);
  }

  settle(request, text, error, field = "") {
    const { control, showAnswer, undo, cancel, timer } = this.pending.get(request);
    this.pending.delete(request);
    clearInterval(timer);
    if (cancel.contains(cancel.getRootNode().activeElement)) control.focus();
    cancel.remove();
    control.removeAttribute("aria-busy");
    if (error) undo();
    showAnswer(text, error, true, field);
  }

  /** Fail pending and further actions while there is no kernel. */
  setLost(lost) {
    this.lost = lost;
    if (lost) for (const request of [...this.pending.keys()]) this.settle(request, LOST, true);
  }
}
