// What the user asks of the kernel, how long that takes, and the answers.

import { make, setText } from "../live/dom.js";

const LOST = "The kernel that kept this table is gone. Run the cell again.";

export class Actions {
  /** @param send takes a message to the kernel */
  constructor(send) {
    this.send = send;
    this.waiting = new Map(); // request id -> the control that was used, where to say it, and a timer
    this.requests = Math.floor(Math.random() * 2 ** 30); // the views of one table share its answers
    this.lost = false;
  }

  /**
   * @param control what was used; it is marked until the answer comes
   * @param say takes a text, and whether that is an error
   * @param undo is called when the kernel refuses
   */
  request(name, value, control, say, undo = () => {}) {
    if (control.hasAttribute("aria-busy")) return;
    if (this.lost) {
      undo();
      say(LOST, true);
      return;
    }
    control.setAttribute("aria-busy", "true");
    const request = (this.requests += 1);
    const cancel = make("button", "tool cancel", { type: "button" });
    cancel.addEventListener("click", () => this.send({ type: "cancel", request }));
    const waiting = { control, say, undo, cancel, begun: false, seconds: 0 };
    waiting.timer = setInterval(() => this.tick(waiting), 1000);
    this.waiting.set(request, waiting);
    this.send({ type: "action", request, name, value });
  }

  /** Once a second: what it waits for, for how long, and a way to stop that. */
  tick(waiting) {
    const { control, say, cancel, begun } = waiting;
    waiting.seconds += 1;
    say(begun ? "At work." : "Waiting for the running cell.", false);
    setText(cancel, `Cancel · ${waiting.seconds} s`);
    if (!cancel.isConnected) control.after(cancel);
  }

  /** The kernel is at it, so no cell is in its way. */
  onBegun({ request }) {
    const waiting = this.waiting.get(request);
    if (waiting) waiting.begun = true;
  }

  onAnswer({ request, error, text }) {
    const waiting = this.waiting.get(request);
    if (!waiting) return; // another view asked
    this.settle(request, text, error);
  }

  settle(request, text, error) {
    const { control, say, undo, cancel, timer } = this.waiting.get(request);
    this.waiting.delete(request);
    clearInterval(timer);
    if (cancel.contains(cancel.getRootNode().activeElement)) control.focus();
    cancel.remove();
    control.removeAttribute("aria-busy");
    if (error) undo();
    say(text, error);
  }

  /** The kernel is gone, and with it the answers; or it is there again. */
  lose(lost) {
    this.lost = lost;
    if (lost) for (const request of [...this.waiting.keys()]) this.settle(request, LOST, true);
  }
}
