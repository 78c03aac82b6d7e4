// Draws with the code of its kind. That is held by one model for all views of the kernel, so that a
// saved notebook holds it once; each view's own model holds only this and a reference.
const LOOKS = 40; // for the model that holds the code, while the page makes its models
const PAUSE = 50; // milliseconds between two looks

// By the code's text: evaluated once a page, also where several kernels send the same.
const modules = (globalThis[Symbol.for("fabric_nb.modules")] ??= new Map());

function evaluate({ esm, css }) {
  const key = css + esm;
  if (!modules.has(key)) {
    const style = document.createElement("style");
    style.textContent = css;
    document.head.append(style);
    const url = URL.createObjectURL(new Blob([esm], { type: "text/javascript" }));
    modules.set(key, import(/* webpackIgnore: true */ url).finally(() => URL.revokeObjectURL(url)));
  }
  return modules.get(key);
}

function fetchCode(model, signal) {
  const id = model.get("_code").replace("IPY_MODEL_", "");
  return new Promise((resolve) => {
    let found = false;
    const finish = (code) => {
      found = true;
      model.off("msg:custom", receive);
      resolve(code);
    };
    const receive = (content) => {
      if (content.type === "code") finish(content);
    };
    const look = async (looks) => {
      try {
        const held = await model.widget_manager.get_model(id);
        const stored = held?.comm === undefined; // without a kernel, nothing else tells a view
        if (held && !found) finish({ esm: held.get("esm"), css: held.get("css"), stored });
      } catch {
        // It is not there: not yet, or this page came up after it was opened (VS Code).
      }
      if (found || signal?.aborted) return;
      if (looks === 1) ask();
      if (looks < LOOKS) setTimeout(look, PAUSE, looks + 1);
    };
    const ask = () => {
      try {
        model.send({ type: "code" });
      } catch {
        // There is no kernel: the last state, which stands below, is what can be seen.
      }
    };
    model.on("msg:custom", receive);
    look(1);
  });
}

function refuse() {
  throw new Error("This view is stored, and belongs to no kernel.");
}

export default {
  async render(context) {
    const { model, signal } = context;
    const code = await fetchCode(model, signal);
    const { default: view } = await evaluate(code);
    if (signal?.aborted) return undefined;
    if (!code.stored) return view.render(context);
    return view.render({ ...context, model: { ...model, stored: true, send: refuse } });
  },
};
