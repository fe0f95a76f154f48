// The player: which moment of which run is shown, and all that can change it.

const data = JSON.parse(document.getElementById("data").textContent);
const $ = (id) => document.getElementById(id);
const state = { frame: 0, moment: 0, timer: null, sourceOpen: false };

// A moment is one node's turn in a pass.
function momentsOf(frame) {
  const moments = [];
  frame.passes.forEach((pass, p) => {
    const layout = data.layouts[pass.layout];
    layout.nodes.forEach((about) => moments.push({ pass: p, phase: layout.phase, about }));
  });
  return moments;
}

let moments = momentsOf(data.frames[0]);
const frameNow = () => data.frames[state.frame];
const graphNow = () => data.graphs[frameNow().graph];

const drawing = new Drawing($("drawing"), goToNode);
const curve = new Curve($("curve"), data.losses, data.frames, (frame) => go(frame, sameMoment(frame)));

function arrayIn(pass, slot) {
  return decoded(data.layouts[pass.layout].slots[slot], pass.arrays[slot]);
}

// The value that a node had in this run, if it was recorded.
function valueOf(node) {
  for (const pass of frameNow().passes) {
    const layout = data.layouts[pass.layout];
    if (layout.phase !== "forward") continue;
    const about = layout.nodes.find((one) => one.node === node);
    if (about) return arrayIn(pass, about.value);
  }
  return null;
}

// Going places

function go(frame, moment) {
  const changed = frame !== state.frame;
  state.frame = Math.min(Math.max(frame, 0), data.frames.length - 1);
  if (changed) moments = momentsOf(frameNow());
  state.moment = Math.min(Math.max(moment, 0), moments.length - 1);
  show();
}

// In another run, the turn of the same node in the same phase.
function sameMoment(frame) {
  const { phase, about } = moments[state.moment];
  const there = momentsOf(data.frames[frame]);
  const same = there.findIndex((one) => one.phase === phase && one.about.node === about.node);
  return data.frames[frame].graph === frameNow().graph && same >= 0 ? same : 0;
}

function forward() {
  if (state.moment + 1 < moments.length) go(state.frame, state.moment + 1);
  else if (state.frame + 1 < data.frames.length) go(state.frame + 1, 0);
  else return false;
  return true;
}

function back() {
  if (state.moment > 0) go(state.frame, state.moment - 1);
  else if (state.frame > 0) go(state.frame - 1, Infinity);
}

function goToStep(by) {
  const frame = Math.min(Math.max(state.frame + by, 0), data.frames.length - 1);
  go(frame, sameMoment(frame));
}

function goToNode(nodes) {
  const { phase, about } = moments[state.moment];
  // Of a box that stands for many, each click goes to the next.
  const next = nodes[(nodes.indexOf(about.node) + 1) % nodes.length];
  const turns = moments.map((one, i) => ({ ...one, i })).filter((one) => one.about.node === next);
  const turn = turns.find((one) => one.phase === phase) ?? turns[0];
  if (turn) go(state.frame, turn.i);
  else $("found").textContent = `Nothing was recorded of ${graphNow().nodes[next].name} here.`;
}

function play(on) {
  clearInterval(state.timer);
  state.timer = on ? setInterval(() => forward() || play(false), Number($("speed").value)) : null;
  $("play").textContent = on ? "Stop" : "Play";
  $("play").setAttribute("aria-pressed", String(on));
  // What changes many times a second is not read out.
  $("now").setAttribute("aria-live", on ? "off" : "polite");
  $("about-step").setAttribute("aria-live", on ? "off" : "polite");
}

// The address

let written = "";
let waiting = null;

function writeAddress() {
  clearTimeout(waiting);
  waiting = setTimeout(() => {
    written = `#step=${frameNow().key}&at=${state.moment + 1}`;
    try {
      history.replaceState(null, "", written);
    } catch {
      // Some places where a page can be shown have no address.
    }
  }, 150);
}

function readAddress() {
  if (location.hash === written) return false;
  const asked = new URLSearchParams(location.hash.slice(1));
  if (!asked.has("step")) return false;
  const key = asked.get("step");
  let frame = data.frames.findIndex((one) => one.key === key);
  if (frame < 0 && /^\d+$/.test(key)) frame = curve.nearest(Number(key));
  if (frame < 0) return false;
  go(frame, Math.floor(Number(asked.get("at")) || 1) - 1);
  return true;
}

// Showing

function show() {
  const frame = frameNow(), graph = graphNow(), moment = moments[state.moment];
  const node = graph.nodes[moment.about.node];
  drawing.show(graph);
  const done = { forward: new Set(), backward: new Set() };
  for (let i = 0; i <= state.moment; i++) done[moments[i].phase].add(moments[i].about.node);
  const senders = (moment.about.received ?? []).map(([sender]) => sender).filter((sender) => sender !== null);
  drawing.light(moment.about.node, moment.phase, done, node.inputs, senders);
  const slider = $("moment");
  slider.max = moments.length;
  slider.value = state.moment + 1;
  const text = `${state.moment + 1} of ${moments.length}: ${moment.phase} of ${node.name}`;
  slider.setAttribute("aria-valuetext", text);
  say("now", text);
  const last = state.frame === data.frames.length - 1;
  // Not `disabled`, which would take the keyboard's place away.
  const off = (id, is) => $(id).setAttribute("aria-disabled", String(is));
  off("first", state.moment === 0);
  off("previous", state.moment === 0 && state.frame === 0);
  off("next", state.moment === moments.length - 1 && last);
  off("last", state.moment === moments.length - 1);
  off("previous-step", state.frame === 0);
  off("next-step", last);
  $("step-label").textContent = frame.step === null ? "Run" : "Training step";
  if ($("step") !== document.activeElement) $("step").value = frame.key;
  const loss = frame.step === null ? null : curve.lossOf(frame.step);
  say("about-step", [
    `${state.frame + 1} of ${data.frames.length} shown`,
    frame.epoch === null ? "" : `epoch ${frame.epoch}`,
    loss === null ? "" : `loss ${shown(loss)}`,
    frame.passes.every((pass) => pass.complete) ? "" : "stopped before its end",
  ].filter(Boolean).join(", "));
  curve.mark(state.frame);
  showDetails(graph, node, moment);
  writeAddress();
}

// Screen readers read out what changes: the same again is no change.
function say(id, text) {
  if ($(id).textContent !== text) $(id).textContent = text;
}

function nodeButton(position) {
  const button = element("button", { type: "button", class: "name" }, graphNow().nodes[position].name);
  button.addEventListener("click", () => goToNode([position]));
  return button;
}

function showDetails(graph, node, moment) {
  const panel = $("details");
  const operation = graph.operations[node.operation];
  const width = Math.max(160, panel.clientWidth - 28);
  const backward = moment.phase === "backward";
  const heading = element("h2", { id: "node-title" }, node.name, element("span", { class: `phase ${moment.phase}` }, moment.phase));
  const parts = [heading];
  const isOperation = node.kind === "operation";
  parts.push(element("p", {}, element("code", {}, isOperation ? `${node.name} = ${node.call}` : node.kind)));
  if (isOperation) {
    parts.push(element("p", { class: "faint" }, ...withCode(operation.summary)));
    if (operation.formula && !backward) parts.push(formula("forward", "value", operation.formula));
    const { derivatives } = operation;
    if (backward && derivatives.length === node.fields.length) {
      derivatives.forEach((text, i) => text !== "None" && parts.push(formula("backward", `to ${node.fields[i]}`, text)));
    }
  }
  const facts = [...node.hyperparameters, ["from", isOperation ? `${operation.pack}.${operation.name}` : ""], ["built at", node.site]];
  const list = element("dl");
  for (const [name, text] of facts) if (text) list.append(element("dt", {}, name), element("dd", { class: "mono" }, text));
  parts.push(list);
  const source = backward ? operation.backward : operation.forward;
  if (source) {
    const text = `Source of ${moment.phase}`;
    const fold = element("details", {}, element("summary", {}, text), element("pre", { tabindex: "0", role: "group", "aria-label": text }, source));
    fold.open = state.sourceOpen;
    fold.addEventListener("toggle", () => (state.sourceOpen = fold.open));
    parts.push(fold);
  }
  const groups = [];
  const pass = frameNow().passes[moment.pass];
  const about = moment.about;
  const figure = (title, name, slot) => matrix(title, name, arrayIn(pass, slot), width);
  if (backward) {
    const received = about.received.map(([sender, slot]) => sender === null
      ? figure(["as seed"], "received as seed", slot)
      : figure(["from ", nodeButton(sender)], `received from ${graph.nodes[sender].name}`, slot));
    // One gradient that was received is the whole of it, and needs no sum.
    const whole = received.length === 1 && about.received[0][1] === about.grad;
    if (received.length) groups.push(group(whole ? "Received, and with it the gradient" : "Received", received));
    if (about.grad !== null && !whole) {
      const title = about.received.length ? [`the sum of all ${about.received.length} received`] : [node.name];
      groups.push(group("Gradient", [figure(title, `gradient of ${node.name}`, about.grad)]));
    }
    if (about.sent) {
      const sent = about.sent.map(([field, slot], i) => {
        const input = node.inputs[i];
        const title = ["to ", nodeButton(input), ` as ${field}`];
        if (slot === null) return element("p", {}, ...title, ": nothing");
        return figure(title, `sent to ${graph.nodes[input].name}`, slot);
      });
      groups.push(group("Sent", sent));
    }
  }
  const values = node.inputs.map((input, i) => {
    const value = valueOf(input);
    const title = [nodeButton(input), ` as ${node.fields[i]}`];
    if (value) return matrix(title, `${graph.nodes[input].name} as ${node.fields[i]}`, value, width);
    return element("p", {}, ...title, ": its value was not recorded");
  });
  if (values.length) groups.push(group("Inputs", values));
  const value = backward ? valueOf(about.node) : arrayIn(pass, about.value);
  if (value) groups.push(group("Value", [matrix([node.name], `value of ${node.name}`, value, width)]));
  parts.push(element("div", { class: "groups" }, ...groups));
  replace(panel, parts);
}

function group(title, figures) {
  return element("div", { class: "group" }, element("h3", {}, title), element("div", { class: "arrays" }, ...figures));
}

// Replace what a panel shows; who was in it with the keyboard stays at the same thing.
function replace(panel, parts) {
  const focused = panel.contains(document.activeElement) ? document.activeElement : null;
  const places = () => [...panel.querySelectorAll("button, summary, [tabindex]")];
  const at = focused ? places().indexOf(focused) : -1;
  panel.replaceChildren(...parts);
  if (focused) (places()[at] ?? panel).focus({ preventScroll: true });
}

// Text in which double backticks enclose code.
function withCode(text) {
  return text.split("``").map((part, i) => (i % 2 ? element("code", {}, part) : part));
}

function formula(phase, name, text) {
  return element("p", { class: `formula ${phase}` }, element("span", { class: "faint" }, `${name} = `), element("code", {}, text));
}

// Search

function search() {
  const asked = $("search").value.trim().toLowerCase();
  const { nodes, operations } = graphNow();
  $("matches").replaceChildren();
  if (!asked) {
    $("found").textContent = "";
    return [];
  }
  const matching = nodes.map((node, i) => i).filter((i) => nodes[i].name.toLowerCase().includes(asked));
  $("found").textContent = `${matching.length} node${matching.length === 1 ? "" : "s"} found`;
  for (const i of matching.slice(0, 50)) {
    $("matches").append(element("li", {}, nodeButton(i), element("span", { class: "faint" }, ` ${operations[nodes[i].operation].name}`)));
  }
  return matching;
}

// What people do

const act = (id, action) => $(id).addEventListener("click", action);
act("first", () => go(state.frame, 0));
act("previous", back);
act("play", () => play(state.timer === null));
act("next", forward);
act("last", () => go(state.frame, Infinity));
act("previous-step", () => goToStep(-1));
act("next-step", () => goToStep(1));
act("smaller", () => drawing.resize(0.8));
act("larger", () => drawing.resize(1.25));
act("fit", () => drawing.resize(0));
act("skip", (event) => {
  event.preventDefault();
  $("details").focus();
});
$("moment").addEventListener("input", () => go(state.frame, Number($("moment").value) - 1));
$("speed").addEventListener("change", () => state.timer !== null && play(true));
$("step").addEventListener("change", () => {
  const text = $("step").value.trim();
  let frame = data.frames.findIndex((one) => one.key === text);
  if (frame < 0 && /^\d+$/.test(text)) frame = curve.nearest(Number(text));
  if (frame >= 0) go(frame, sameMoment(frame));
  $("step").value = frameNow().key;
});
$("search").addEventListener("input", search);
$("search").addEventListener("keydown", (event) => {
  if (event.key === "Enter") {
    const matching = search();
    if (matching.length) goToNode(matching);
  } else if (event.key === "Escape") {
    $("search").value = "";
    search();
  }
});
document.addEventListener("keydown", (event) => {
  const target = event.target;
  if (event.defaultPrevented || event.ctrlKey || event.altKey || event.metaKey || event.shiftKey) return;
  if (target.closest("input, select, textarea, #drawing, pre")) return;
  if (event.key === " " && target.closest("button, summary, a")) return;
  const keys = {
    ArrowRight: forward, ArrowLeft: back, Home: () => go(state.frame, 0), End: () => go(state.frame, Infinity),
    " ": () => play(state.timer === null), PageUp: () => goToStep(-1), PageDown: () => goToStep(1),
  };
  if (!(event.key in keys)) return;
  event.preventDefault();
  keys[event.key]();
});
window.addEventListener("hashchange", readAddress);

// Colours: as the system has them, until someone chooses.

const systemIsDark = window.matchMedia("(prefers-color-scheme: dark)");
let chosenTheme = null;
try {
  chosenTheme = localStorage.getItem("miniflow-theme");
} catch {
  // Storage may be switched off.
}

function colours() {
  const dark = chosenTheme ? chosenTheme === "dark" : systemIsDark.matches;
  document.documentElement.dataset.theme = dark ? "dark" : "light";
  $("theme").textContent = dark ? "Light colours" : "Dark colours";
}

act("theme", () => {
  chosenTheme = theme() === "dark" ? "light" : "dark";
  try {
    localStorage.setItem("miniflow-theme", chosenTheme);
  } catch {
    // As above.
  }
  colours();
  show();
});
systemIsDark.addEventListener("change", () => {
  colours();
  show();
});
let resized = null;
window.addEventListener("resize", () => {
  clearTimeout(resized);
  resized = setTimeout(() => {
    drawing.resize();
    curve.draw();
    show();
  }, 100);
});

colours();
for (const note of data.notes) $("notes").append(element("li", {}, note));
if (data.frames.length === 1) $("step-label").parentElement.hidden = true;
if (!readAddress()) show();
