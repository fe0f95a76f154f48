// Arrays as coloured matrices: a canvas in which the pointer or the arrow keys read numbers.

function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

const COLOURS = {
  light: { zero: [255, 255, 255], low: [5, 75, 160], high: [176, 58, 0], nan: [200, 0, 200] },
  dark: { zero: [24, 28, 34], low: [105, 180, 255], high: [255, 160, 80], nan: [255, 90, 255] },
};

function theme() {
  return document.documentElement.dataset.theme === "dark" ? "dark" : "light";
}

// Blue below zero, orange above, and what is no number in a colour of its own.
function colour(value, scale) {
  const { zero, low, high, nan } = COLOURS[theme()];
  if (Number.isNaN(value)) return nan;
  const share = scale > 0 ? Math.min(Math.abs(value) / scale, 1) : value === 0 ? 0 : 1;
  const end = value < 0 ? low : high;
  return zero.map((from, i) => Math.round(from + (end[i] - from) * share));
}

function luminance(rgb) {
  const [r, g, b] = rgb.map((c) => (c / 255 <= 0.04045 ? c / 3294.6 : ((c / 255 + 0.055) / 1.055) ** 2.4));
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
}

function shown(value, digits = 6) {
  if (Number.isNaN(value)) return "NaN";
  if (!Number.isFinite(value)) return value > 0 ? "inf" : "−inf";
  if (Number.isInteger(value) && Math.abs(value) < 1e15) return String(value).replaceAll("-", "−");
  return String(Number(value.toPrecision(digits))).replaceAll("-", "−");
}

function numbers(text, wide) {
  const bytes = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
  const view = new DataView(bytes.buffer), size = wide ? 8 : 4;
  return Float64Array.from({ length: bytes.length / size }, (_, i) =>
    wide ? view.getFloat64(8 * i, true) : view.getFloat32(4 * i, true));
}

// What is known of an array: { shape, dtype, values, counts, low, high, mean, ... }.
function decoded(slot, stored) {
  const [shape, dtype] = slot;
  const found = { shape, dtype, values: null, counts: shape, whole: true, summary: null };
  if (typeof stored === "string") found.values = numbers(stored, false);
  else if (stored) {
    if (stored.d !== undefined) found.values = numbers(stored.d, stored.w === 8);
    if (stored.k) [found.counts, found.whole] = [stored.k, false];
    if (stored.m) found.summary = { numbers: stored.m.map(Number), histogram: stored.h };
  }
  return found;
}

function typeText(array) {
  const dtype = array.dtype;
  if (!array.shape.length) return `${dtype}, a single number`;
  return `${dtype} ${array.shape.join(" × ")}`;
}

function statistics(array) {
  if (array.summary) {
    const [minimum, maximum, mean, deviation, nan, inf, negative] = array.summary.numbers;
    return { minimum, maximum, mean, deviation, nan, inf: inf + negative };
  }
  const finite = array.values.filter(Number.isFinite);
  const nan = array.values.filter(Number.isNaN).length;
  const most = finite.reduce((a, b) => Math.max(a, Math.abs(b)), 0) || 1;
  return {
    minimum: finite.reduce((a, b) => Math.min(a, b), Infinity),
    maximum: finite.reduce((a, b) => Math.max(a, b), -Infinity),
    mean: (finite.reduce((a, b) => a + b / most, 0) / finite.length) * most,
    nan, inf: array.values.length - finite.length - nan,
  };
}

function summaryText(about) {
  const parts = [];
  if (about.minimum <= about.maximum) {
    parts.push(`min ${shown(about.minimum, 4)}`, `max ${shown(about.maximum, 4)}`, `mean ${shown(about.mean, 4)}`);
    if (about.deviation !== undefined) parts.push(`deviation ${shown(about.deviation, 4)}`);
  }
  if (about.nan) parts.push(`NaN ${about.nan}`);
  if (about.inf) parts.push(`infinite ${about.inf}`);
  return parts.join(", ");
}

// Where each shown element is: rows and columns of tiles, each with rows and columns of cells.
function arrangement(counts, values) {
  if (counts.length >= 2) {
    const [rows, columns] = counts.slice(-2);
    const outer = counts.slice(0, -2);
    const tiles = outer.reduce((a, b) => a * b, 1);
    const across = outer.length > 1 && outer[outer.length - 1] > 1 ? outer[outer.length - 1] : Math.ceil(Math.sqrt(tiles));
    return { rows, columns, tiles, across: Math.max(across, 1) };
  }
  const columns = Math.min(values, 16);
  return { rows: Math.ceil(values / Math.max(columns, 1)), columns, tiles: 1, across: 1 };
}

// The indices in the array of the n-th shown element.
function indices(array, n) {
  const found = [];
  for (let axis = array.counts.length - 1; axis >= 0; axis--) {
    const count = array.counts[axis], size = array.shape[axis];
    const place = n % count;
    n = Math.floor(n / count);
    found.unshift(count === size ? place : Math.floor((place * (size - 1)) / Math.max(count - 1, 1)));
  }
  return found;
}

const HIGHEST = 420; // pixels, about

function canvasOf(array, scale, width) {
  const { rows, columns, tiles, across } = arrangement(array.counts, array.values.length);
  const gap = tiles > 1 ? 5 : 0;
  const down = Math.ceil(tiles / across);
  const room = (width - gap * (across + 1)) / (columns * across);
  const few = tiles === 1 && columns <= 8 && rows <= 24 && room >= 34;
  const low = Math.max(3, Math.floor(HIGHEST / (rows * down)));
  const cell = Math.max(1, Math.floor(few ? Math.min(room, 48) : Math.min(room, tiles > 1 ? 10 : 20, low)));
  const height = few ? 24 : Math.max(cell, 1);
  const full = [cell * columns * across + gap * (across + 1), height * rows * down + gap * (down + 1)];
  const ratio = window.devicePixelRatio || 1;
  const canvas = element("canvas", { width: Math.round(full[0] * ratio), height: Math.round(full[1] * ratio) });
  canvas.style.width = `${full[0]}px`;
  canvas.style.height = `${full[1]}px`;
  const cornerOf = (n) => {
    const tile = Math.floor(n / (rows * columns)), inside = n % (rows * columns);
    const x = gap + (tile % across) * (columns * cell + gap) + (inside % columns) * cell;
    const y = gap + Math.floor(tile / across) * (rows * height + gap) + Math.floor(inside / columns) * height;
    return [x, y];
  };
  const draw = (at) => {
    const brush = canvas.getContext("2d");
    brush.setTransform(ratio, 0, 0, ratio, 0, 0);
    brush.fillStyle = getComputedStyle(document.documentElement).getPropertyValue("--panel");
    brush.fillRect(0, 0, ...full);
    brush.font = "11px ui-monospace, 'DejaVu Sans Mono', Menlo, Consolas, monospace";
    brush.textAlign = "center";
    brush.textBaseline = "middle";
    array.values.forEach((value, n) => {
      const [x, y] = cornerOf(n), rgb = colour(value, scale);
      brush.fillStyle = `rgb(${rgb.join()})`;
      brush.fillRect(x, y, cell, height);
      if (few) {
        brush.fillStyle = luminance(rgb) > 0.18 ? "#000" : "#fff";
        brush.fillText(shown(value, 3), x + cell / 2, y + height / 2, cell - 4);
      } else if (!Number.isFinite(value) && cell >= 3) {
        brush.strokeStyle = theme() === "dark" ? "#fff" : "#000";
        brush.beginPath();
        brush.moveTo(x, y + height);
        brush.lineTo(x + cell, y);
        brush.stroke();
      }
    });
    if (at !== null && array.values.length) {
      const [x, y] = cornerOf(at);
      const wide = Math.max(cell, 5), tall = Math.max(height, 5);
      brush.lineWidth = 4;
      brush.strokeStyle = "#fff";
      brush.strokeRect(x, y, wide, tall);
      brush.lineWidth = 2;
      brush.strokeStyle = "#000";
      brush.strokeRect(x, y, wide, tall);
    }
  };
  const elementAt = (x, y) => {
    const column = Math.floor((x - gap) / (columns * cell + gap)), row = Math.floor((y - gap) / (rows * height + gap));
    const tile = row * across + column;
    const j = Math.floor((x - gap - column * (columns * cell + gap)) / cell);
    const i = Math.floor((y - gap - row * (rows * height + gap)) / height);
    if (column < 0 || row < 0 || column >= across || tile >= tiles || i < 0 || j < 0 || i >= rows || j >= columns) return null;
    const n = tile * rows * columns + i * columns + j;
    return n < array.values.length ? n : null;
  };
  return { canvas, draw, elementAt, columns, rows, full };
}

function legend(scale) {
  const bar = element("canvas", { width: 120, height: 10, "aria-hidden": "true" });
  const brush = bar.getContext("2d");
  for (let x = 0; x < 120; x++) {
    brush.fillStyle = `rgb(${colour(((x - 59.5) / 59.5) * (scale || 1), scale || 1).join()})`;
    brush.fillRect(x, 0, 1, 10);
  }
  return element("div", { class: "legend" }, `−${shown(scale, 3)}`, bar, shown(scale, 3));
}

// A figure of an array. `title` is a list of texts and elements, `name` the same as text alone.
function matrix(title, name, array, width) {
  const figure = element("figure", { class: "array" });
  figure.append(element("figcaption", {}, ...title, " ", element("span", { class: "faint" }, typeText(array))));
  if (!array.values) {
    if (!array.summary) {
      figure.append(element("p", { class: "summary" }, "Its numbers were not recorded."));
      return figure;
    }
    const text = summaryText(statistics(array));
    figure.append(element("p", { class: "summary" }, `Recorded as a summary: ${text}.`));
    const most = Math.max(...array.summary.histogram, 1);
    const histogram = element("div", { class: "histogram", role: "img", "aria-label": `Histogram of ${name} in 16 bins from the smallest to the largest: ${array.summary.histogram.join(", ")}` });
    for (const count of array.summary.histogram) {
      const bar = element("i");
      bar.style.height = `${(100 * count) / most}%`;
      histogram.append(bar);
    }
    figure.append(histogram);
    return figure;
  }
  if (!array.values.length) {
    figure.append(element("p", { class: "summary" }, "It has no elements."));
    return figure;
  }
  const about = statistics(array);
  const scale = about.minimum <= about.maximum ? Math.max(Math.abs(about.minimum), Math.abs(about.maximum)) : 0;
  const drawn = canvasOf(array, scale, width);
  const box = element("div", {
    class: "matrix", tabindex: "0", role: "slider", "aria-valuemin": "1", "aria-valuemax": array.values.length,
    "aria-label": `${name}, ${typeText(array)}, ${summaryText(about)}. Arrow keys read the numbers.`,
  }, drawn.canvas);
  const readout = element("p", { class: "readout mono", "aria-hidden": "true" });
  let at = 0;
  const say = (n) => {
    const where = indices(array, n);
    const value = array.values[n];
    const number = array.dtype === "bool" ? (value ? "True" : "False") : shown(value);
    return `${where.length ? `[${where.join(", ")}] = ` : ""}${number}`;
  };
  const mark = (n, visible) => {
    drawn.draw(visible ? n : null);
    readout.textContent = visible ? say(n) : array.values.length === 1 ? say(0) : "";
    box.setAttribute("aria-valuenow", n + 1);
    box.setAttribute("aria-valuetext", say(n));
  };
  mark(0, false);
  const point = (event) => {
    const scaled = drawn.canvas.getBoundingClientRect();
    const n = drawn.elementAt(((event.clientX - scaled.left - 1) / (scaled.width - 2)) * drawn.full[0], ((event.clientY - scaled.top - 1) / (scaled.height - 2)) * drawn.full[1]);
    if (n !== null) mark((at = n), true);
  };
  drawn.canvas.addEventListener("pointermove", point);
  drawn.canvas.addEventListener("pointerdown", point);
  drawn.canvas.addEventListener("pointerleave", () => mark(at, box === document.activeElement));
  box.addEventListener("focus", () => mark(at, true));
  box.addEventListener("blur", () => mark(at, false));
  box.addEventListener("keydown", (event) => {
    const last = array.values.length - 1;
    const steps = { ArrowLeft: at - 1, ArrowRight: at + 1, ArrowUp: at - drawn.columns, ArrowDown: at + drawn.columns, Home: 0, End: last };
    if (!(event.key in steps) || event.ctrlKey || event.altKey || event.metaKey) return;
    event.preventDefault();
    const to = steps[event.key];
    if (to >= 0 && to <= last) mark((at = to), true);
  });
  figure.append(box);
  if (array.values.length > 1) figure.append(legend(scale));
  figure.append(readout);
  if (!array.whole) {
    figure.append(element("p", { class: "summary" }, `Large: ${array.counts.join(" × ")} evenly chosen elements are shown. Of all: ${summaryText(about)}.`));
  }
  if (array.dtype.startsWith("complex")) figure.append(element("p", { class: "summary" }, "Magnitudes of complex numbers."));
  return figure;
}
