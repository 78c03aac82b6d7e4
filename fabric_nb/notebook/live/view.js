// Renders a view with the code of its kind. One model contains that code for all views of a kernel,
// so that a saved notebook contains it once; the model of each view only has a reference.
const MAX_ATTEMPTS = 40; // to get the model of the code, while the page creates its models
const RETRY_DELAY = 50; // milliseconds

// By the code's text, so that it is evaluated once per page, even if several kernels send it.
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
    const tryModel = async (attempt) => {
      try {
        const shared = await model.widget_manager.get_model(id);
        const stored = shared?.comm === undefined; // a model without a kernel has no comm
        if (shared && !found) finish({ esm: shared.get("esm"), css: shared.get("css"), stored });
      } catch {
        // The model does not exist yet, or was opened before this page was loaded (VS Code).
      }
      if (found || signal?.aborted) return;
      if (attempt === 1) requestCode();
      if (attempt < MAX_ATTEMPTS) setTimeout(tryModel, RETRY_DELAY, attempt + 1);
    };
    const requestCode = () => {
      try {
        model.send({ type: "code" });
      } catch {
        // There is no kernel; the static copy below is shown.
      }
    };
    model.on("msg:custom", receive);
    tryModel(1);
  });
}

function refuse() {
  throw new Error("This view is stored and has no kernel.");
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
