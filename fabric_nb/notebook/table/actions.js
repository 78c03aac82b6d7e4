// What the user asks of the kernel, and the answers.

const LOST = "The kernel that kept this table is gone. Run the cell again.";

class Actions {
  /** @param send takes a message to the kernel */
  constructor(send) {
    this.send = send;
    this.waiting = new Map(); // request id -> the control that was used, where to say it, and a timer
    this.requests = 0;
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
    const timer = setTimeout(() => say("Waiting for the running cell.", false), 1000);
    this.waiting.set(request, { control, say, undo, timer });
    this.send({ type: "action", request, name, value });
  }

  onAnswer({ request, error, text }) {
    const waiting = this.waiting.get(request);
    if (!waiting) return; // another view asked
    this.settle(request, text, error);
  }

  settle(request, text, error) {
    const { control, say, undo, timer } = this.waiting.get(request);
    this.waiting.delete(request);
    clearTimeout(timer);
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
