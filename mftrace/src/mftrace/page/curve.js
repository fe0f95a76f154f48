// The loss curve, on which a step can be chosen.

class Curve {
  // `frames` are the steps that can be shown: [{ key, step }, ...].
  constructor(place, losses, frames, go) {
    this.losses = { steps: losses.steps, values: losses.losses.map(Number) };
    this.frames = frames;
    this.go = go;
    this.place = place;
    this.current = 0;
    if (this.losses.steps.length < 2 || !frames.some((frame) => frame.step !== null)) {
      place.hidden = true;
      return;
    }
    this.box = element("div", { role: "slider", tabindex: "0", "aria-label": "Loss curve: choose a training step", "aria-valuemin": "1", "aria-valuemax": frames.length });
    place.append(this.box);
    this.box.addEventListener("click", (event) => {
      const bounds = this.box.getBoundingClientRect();
      const share = (event.clientX - bounds.left - this.left) / (bounds.width - this.left - 8);
      const at = Math.round(Math.min(Math.max(share, 0), 1) * (this.losses.steps.length - 1));
      this.go(this.nearest(this.losses.steps[at]));
    });
    this.box.addEventListener("keydown", (event) => {
      const last = this.frames.length - 1;
      const many = Math.max(1, Math.round(this.frames.length / 20));
      const moves = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1, PageDown: -many, PageUp: many, Home: -last, End: last };
      if (!(event.key in moves) || event.ctrlKey || event.altKey || event.metaKey) return;
      event.preventDefault();
      this.go(Math.min(last, Math.max(0, this.current + moves[event.key])));
    });
    this.draw();
  }

  nearest(step) {
    let best = 0, least = Infinity;
    this.frames.forEach((frame, i) => {
      const distance = frame.step === null ? Infinity : Math.abs(frame.step - step);
      if (distance < least) [best, least] = [i, distance];
    });
    return best;
  }

  draw() {
    if (!this.box) return;
    const width = Math.max(this.place.clientWidth, 200), height = 110, bottom = height - 18, top = 10;
    const finite = this.losses.values.filter(Number.isFinite);
    const low = finite.reduce((a, b) => Math.min(a, b), Infinity), high = finite.reduce((a, b) => Math.max(a, b), -Infinity);
    const logarithmic = low > 0 && high / low > 50;
    const measure = logarithmic ? Math.log : (value) => value;
    const labels = finite.length ? [shown(high, 3), shown(low, 3)] : ["", ""];
    this.left = 14 + 7 * Math.max(...labels.map((label) => label.length));
    const right = width - 8;
    const count = this.losses.steps.length;
    const x = (i) => this.left + ((right - this.left) * i) / Math.max(count - 1, 1);
    const range = measure(high) - measure(low) || 1;
    const y = (value) => bottom - ((bottom - top) * (measure(value) - measure(low))) / range;
    this.x = x;
    this.y = (value) => (Number.isFinite(value) ? y(value) : top);
    const svg = drawn("svg", { viewBox: `0 0 ${width} ${height}`, "aria-hidden": "true" });
    svg.append(drawn("path", { class: "axis", d: `M${this.left} ${top}V${bottom}H${right}` }));
    svg.append(drawn("path", { class: "line", d: this.path(x, y, right - this.left) }));
    svg.append(drawn("text", { x: 4, y: top + 5 }, labels[0]), drawn("text", { x: 4, y: bottom }, labels[1]));
    const steps = this.losses.steps;
    const note = (width > 500 ? "loss of each training step" : "loss") + (logarithmic ? ", logarithmic" : "");
    svg.append(drawn("text", { x: this.left, y: height - 4 }, `${steps[0]}`));
    const end = drawn("text", { x: right, y: height - 4, "text-anchor": "end" }, `${steps[count - 1]}`);
    const middle = drawn("text", { x: (this.left + right) / 2, y: height - 4, "text-anchor": "middle" }, note);
    svg.append(end, middle);
    this.here = drawn("path", { class: "here" });
    this.dot = drawn("circle", { class: "dot", r: 4 });
    svg.append(this.here, this.dot);
    this.bottom = bottom;
    this.box.replaceChildren(svg);
    this.mark(this.current);
  }

  // Of many points, the lowest and the highest of each pixel.
  path(x, y, width) {
    const { values } = this.losses;
    const stride = Math.max(1, Math.floor(values.length / width));
    let text = "", open = false;
    const add = (i) => {
      text += `${open ? "L" : "M"}${x(i).toFixed(1)} ${y(values[i]).toFixed(1)}`;
      open = true;
    };
    for (let start = 0; start < values.length; start += stride) {
      let low = null, high = null;
      for (let i = start; i < Math.min(start + stride, values.length); i++) {
        if (!Number.isFinite(values[i])) continue;
        if (low === null || values[i] < values[low]) low = i;
        if (high === null || values[i] > values[high]) high = i;
      }
      if (low === null) open = false;
      else for (const i of low === high ? [low] : [Math.min(low, high), Math.max(low, high)]) add(i);
    }
    return text;
  }

  lossOf(step) {
    const at = this.losses.steps.lastIndexOf(step);
    return at < 0 ? null : this.losses.values[at];
  }

  mark(frame) {
    this.current = frame;
    if (!this.box) return;
    const { step } = this.frames[frame];
    const at = step === null ? -1 : this.losses.steps.lastIndexOf(step);
    this.box.setAttribute("aria-valuenow", frame + 1);
    for (const part of [this.here, this.dot]) part.setAttribute("visibility", at < 0 ? "hidden" : "visible");
    if (at < 0) {
      this.box.setAttribute("aria-valuetext", "not a training step");
      return;
    }
    this.box.setAttribute("aria-valuetext", `step ${step}, loss ${shown(this.losses.values[at])}`);
    this.here.setAttribute("d", `M${this.x(at)} 4V${this.bottom}`);
    this.dot.setAttribute("cx", this.x(at));
    this.dot.setAttribute("cy", this.y(this.losses.values[at]));
  }
}
