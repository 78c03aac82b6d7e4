// A page under a cell. Its markup is made, and escaped, by fabric_nb.notebook.pages.
export default {
  render({ model, el }) {
    const root = document.createElement("div");
    root.className = "fabric-page";
    el.append(root);
    const paint = (text) => { root.innerHTML = JSON.parse(text).html; };
    const hello = () => {
      // Nothing can be sent once the kernel was restarted or has died, and nothing else tells.
      try {
        // JupyterLab and Notebook obey the rule that hides the last state under a live page.
        model.send({ type: "hello", hides: "jpThemeName" in document.body.dataset });
        root.classList.remove("lost");
      } catch {
        root.classList.add("lost");
      }
    };
    const receive = (content, buffers) => {
      if (content.type === "page") paint(new TextDecoder().decode(buffers[0]));
    };
    paint(model.get("_whole"));
    model.on("msg:custom", receive);
    model.on("comm_live_update", hello);
    hello();
    return () => {
      model.off("msg:custom", receive);
      model.off("comm_live_update", hello);
    };
  },
};
