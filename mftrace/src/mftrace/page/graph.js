// The graph as SVG: boxes that light up, and edges along which values and gradients go.

const SVG = "http://www.w3.org/2000/svg";

function drawn(tag, attributes = {}, text = null) {
  const made = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  if (text !== null) made.textContent = text;
  return made;
}

class Drawing {
  constructor(panel, choose) {
    this.panel = panel;
    this.choose = choose;
    this.graph = null;
    this.zoom = null; // null: as wide as the panel, but not larger than it was laid out
  }

  show(graph) {
    if (graph === this.graph) return;
    this.graph = graph;
    this.panel.replaceChildren();
    this.boxes = [];
    this.edges = [];
    this.boxOf = new Map();
    const plan = graph.drawing;
    if (!plan) {
      this.panel.append(element("p", {}, "This graph is too large to be drawn. Find its nodes by name."));
      return;
    }
    const [width, height] = plan.size;
    this.svg = drawn("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": `Graph of ${graph.nodes.length} nodes. To go to a node, find it by name.` });
    for (const edge of plan.edges) {
      const [x, y] = edge.end;
      const path = drawn("path", { class: "edge", d: edge.path });
      const head = drawn("path", { class: "head", d: `M${x} ${y}l-3.5 -7h7z` });
      this.svg.append(path, head);
      this.edges.push({ from: edge.from, to: edge.to, parts: [path, head] });
    }
    plan.boxes.forEach((box, i) => {
      const group = drawn("g", { class: `box ${box.kind}${box.output ? " output" : ""}` });
      group.append(drawn("title", {}, box.nodes.length === 1 ? graph.nodes[box.nodes[0]].name : `${box.nodes.length} nodes`));
      if (box.nodes.length > 1) group.append(drawn("path", { class: "shape", d: box.outline, transform: "translate(4 4)" }));
      group.append(drawn("path", { class: "shape", d: box.outline }));
      box.lines.forEach(([text, y], n) => group.append(drawn("text", { class: n ? "small" : "title", x: box.x, y }, text)));
      box.label.forEach(([text, x, y]) => group.append(drawn("text", { class: "label", x, y }, text)));
      const right = Number(box.outline.match(/L([-\d.]+)/)[1]);
      group.append(drawn("circle", { class: "mark value", cx: right - 9, cy: box.top, r: 4.5 }));
      group.append(drawn("circle", { class: "mark gradient", cx: right - 9, cy: box.bottom, r: 4.5 }));
      group.addEventListener("click", () => this.choose(box.nodes));
      this.svg.append(group);
      this.boxes.push(group);
      for (const node of box.nodes) this.boxOf.set(node, i);
    });
    this.panel.append(this.svg);
    this.resize();
  }

  resize(factor = null) {
    if (!this.graph?.drawing) return;
    const [width, height] = this.graph.drawing.size;
    const fitting = Math.min(1, Math.max(0.6, (this.panel.clientWidth - 2) / width));
    if (factor === 0) this.zoom = null;
    else if (factor) this.zoom = Math.min(3, Math.max(0.1, (this.zoom ?? fitting) * factor));
    const zoom = this.zoom ?? fitting;
    this.svg.setAttribute("width", width * zoom);
    this.svg.setAttribute("height", height * zoom);
    this.follow();
  }

  // `done` holds the nodes whose value, or gradient, is there already.
  light(node, phase, done, inputs, senders) {
    if (!this.graph?.drawing) return;
    this.boxes.forEach((box) => box.classList.remove("lit", "has-value", "has-gradient"));
    for (const other of done.forward) this.boxes[this.boxOf.get(other)].classList.add("has-value");
    for (const other of done.backward) this.boxes[this.boxOf.get(other)].classList.add("has-gradient");
    this.lit = this.boxOf.get(node);
    this.boxes[this.lit].classList.add("lit");
    const ends = new Set((phase === "forward" ? inputs : senders).map((other) => this.boxOf.get(other)));
    for (const edge of this.edges) {
      const moves = phase === "forward" ? edge.to === this.lit && ends.has(edge.from) : edge.from === this.lit && ends.has(edge.to);
      for (const part of edge.parts) {
        part.classList.toggle("forward", moves && phase === "forward");
        part.classList.toggle("backward", moves && phase === "backward");
      }
    }
    this.follow();
  }

  follow() {
    if (this.lit === undefined || !this.boxes[this.lit]) return;
    const panel = this.panel.getBoundingClientRect();
    const box = this.boxes[this.lit].getBoundingClientRect();
    const inside = box.top >= panel.top && box.bottom <= panel.bottom && box.left >= panel.left && box.right <= panel.right;
    if (inside) return;
    this.panel.scrollTo({
      left: this.panel.scrollLeft + box.left - panel.left - (panel.width - box.width) / 2,
      top: this.panel.scrollTop + box.top - panel.top - (panel.height - box.height) / 2,
    });
  }
}
