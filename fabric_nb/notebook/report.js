// Renders the tables of a report from their stored state, so that they can be sorted and searched.
// Without this script, or if it fails, their static copies remain.
const { esm, states } = JSON.parse(document.getElementById("fabric-data").textContent);

function storedModel(state) {
  return {
    stored: true,
    get: (name) => (name === "_whole" ? state : undefined),
    on() {},
    off() {},
    send() {
      throw new Error("A report has no kernel.");
    },
  };
}

if (esm) {
  const url = URL.createObjectURL(new Blob([esm], { type: "text/javascript" }));
  const { default: view } = await import(url);
  for (const [id, state] of Object.entries(states)) {
    const section = document.getElementById(id);
    const live = document.createElement("div");
    const copy = [...section.childNodes];
    section.prepend(live);
    try {
      view.render({ model: storedModel(state), el: live });
      for (const node of copy) node.remove();
    } catch (error) {
      live.remove();
      console.error(error);
    }
  }
}
