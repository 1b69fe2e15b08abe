import { ARROWS, drawHeat, drawLegend, element, imagePixels, percent } from "./heat.js";
import { chosen, request, showError, showRun, showText } from "./page.js";

const $ = (id) => document.getElementById(id);
let run;
let cells;  // along a side: what can be hidden
let image = null;  // its pixels, scaled, as a PNG: what the server makes of any file
let pixels = null;
let shown = null;  // the pixels with the hidden cells: what the models see
let hidden = new Set();
let label = "your image";
const panels = {};

start().catch(showError);

async function start() {
  run = await request("/api/run");
  cells = run.grid;
  showRun(run);
  $("live").hidden = false;
  drawLegend($("legend"), run.colours);
  for (const role of Object.keys(run.models)) panels[role] = panel(role);
  masking();
  $("file").addEventListener("change", ({ target }) => {
    const file = target.files[0];
    target.value = "";  // so that the same file can be chosen again
    if (file) take(file, file.name);
  });
  $("opacity").addEventListener("input", () => Object.values(panels).forEach((p) => p.draw()));
  $("show-all").addEventListener("click", () => { hidden.clear(); drawInput(); refresh(); });
  $("another").addEventListener("click", randomImage);
  document.addEventListener("paste", (event) => {
    const file = event.clipboardData?.files[0];
    if (file) take(file, "the pasted image");
  });
  document.addEventListener("dragover", (event) => { event.preventDefault(); $("own").classList.add("drop"); });
  document.addEventListener("dragleave", (event) => { if (!event.relatedTarget) $("own").classList.remove("drop"); });
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    $("own").classList.remove("drop");
    const file = event.dataTransfer.files[0];
    if (file) take(file, file.name);
    else showError(new Error("this is not a file; save the image first, then drop the file"));
  });
  const index = new URLSearchParams(location.search).get("image") ?? "";
  if (/^\d+$/.test(index)) await testImage(index);
  else await randomImage();
}

// First a test image for which both predictions are correct, then any other.
async function randomImage() {
  try {
    const query = image ? "" : "bucket=both_correct&";
    let { images: [chosen], total } = await request(`/api/images?${query}limit=1`);
    if (image || !chosen) ({ images: [chosen] } = await request(`/api/images?limit=1&offset=${Math.floor(Math.random() * total)}`));
    await testImage(chosen.index);
  } catch (error) {
    if (error.status === 409) $("another").hidden = true;  // no test images here; uploads still work
    else showError(error);
  }
}

async function testImage(index) {
  const response = await fetch(chosen(`/api/images/${index}.png`));
  if (response.ok) await take(await response.blob(), `test image ${index}`, chosen(`?image=${index}`));
  else showError(new Error(`there is no test image ${index}`));
}

let taken = 0;

async function take(file, name, address = chosen(location.pathname)) {
  const mine = ++taken;  // a slow upload must not replace a later one
  if (file.size > 20e6) {
    showError(new Error(`${name} has ${(file.size / 1e6).toFixed(0)} MB; an image file may have up to 20`));
    return;
  }
  try {
    const { seen } = await request("/api/predict", file);
    const bytes = Uint8Array.from(atob(seen.split(",")[1]), (c) => c.charCodeAt(0));
    const found = await imagePixels(seen);
    if (mine !== taken) return;
    [image, pixels] = [new Blob([bytes], { type: "image/png" }), found];
  } catch (error) {
    if (mine === taken) showError(error);  // the previous image stays
    return;
  }
  showError(null);
  label = name;
  history.replaceState(null, "", address);
  hidden.clear();
  $("prompt").hidden = true;
  $("cells").hidden = false;
  drawInput();
  await refresh();
}

let busy = false, again = false;

// Run the models. During a request only the latest change is kept.
async function refresh() {
  if (!image) return;
  again = busy;
  if (busy) return;
  busy = true;
  $("live").setAttribute("aria-busy", true);
  do {
    again = false;
    try {
      const query = hidden.size ? `hidden=${[...hidden].join(",")}` : "";
      await Promise.all([
        request(`/api/predict?${query}`, image).then(({ models }) => showPredictions(models)),
        ...Object.values(panels).map((p) => p.explain(query)),
      ]);
      showError(null);
    } catch (error) {
      showError(error);
    }
  } while (again);
  busy = false;
  $("live").setAttribute("aria-busy", false);
}

function showPredictions(models) {
  for (const [role, { label: model }] of Object.entries(run.models)) {
    if (models[role]?.label !== model) throw new Error("the models have changed meanwhile; reload the page");
    panels[role].predictions(models[role].top);
  }
  if (Object.keys(models).length > Object.keys(panels).length) {
    showText("notice", "Another model has finished training; reload the page to see it.");
  }
  $("status").textContent = Object.values(models).map(({ label: model, top: [best] }) => `${model}: ${best.class}, ${percent(best.confidence)}`).join("; ");
}

function drawInput() {
  const context = $("seen").getContext("2d"), { side } = run, wide = side / cells;
  context.putImageData(new ImageData(new Uint8ClampedArray(pixels), side, side), 0, 0);
  context.fillStyle = `rgb(${run.hidden_colour})`;
  for (const cell of hidden) context.fillRect(wide * (cell % cells), wide * Math.floor(cell / cells), wide, wide);
  shown = context.getImageData(0, 0, side, side).data;
  const count = hidden.size ? `${hidden.size} of ${cells ** 2} cells hidden` : "";
  $("seen").setAttribute("aria-label", `${label}, ${side} by ${side} pixels${count && `, ${count}`}`);
  [...$("cells").children].forEach((cell, i) => cell.classList.toggle("gone", hidden.has(i)));
  $("hidden-count").textContent = count;
  $("show-all").disabled = !hidden.size;
}

// Hide and show cells with the pointer or the keyboard.
function masking() {
  const grid = $("cells"), middle = Math.floor((cells - 1) / 2);
  $("seen").width = $("seen").height = run.side;
  $("size").textContent = `${run.side} × ${run.side} pixels, `;
  $("cell-size").textContent = `of ${run.side / cells} × ${run.side / cells} pixels`;
  grid.setAttribute("aria-label", `Hide parts of the image: move over its ${cells} by ${cells} cells with the arrow keys; press space to hide or show a cell`);
  grid.style.setProperty("--cells", cells);
  for (let i = 0; i < cells ** 2; i++) grid.append(element("i"));
  let here = cells * middle + middle, hides = null;
  const set = (cell, gone) => {
    if (cell < 0 || hidden.has(cell) === gone) return;
    if (gone) hidden.add(cell); else hidden.delete(cell);
    drawInput();
    refresh();
  };
  const under = ({ clientX, clientY }) => [...grid.children].indexOf(document.elementFromPoint(clientX, clientY));
  grid.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    grid.setPointerCapture(event.pointerId);
    hides = !hidden.has(under(event));
    set(under(event), hides);
  });
  grid.addEventListener("pointermove", (event) => {
    if (hides === null) return;
    for (const passed of event.getCoalescedEvents?.() ?? []) set(under(passed), hides);
    set(under(event), hides);
  });
  for (const end of ["pointerup", "pointercancel"]) grid.addEventListener(end, () => { hides = null; });
  const move = (to) => {
    grid.children[here].classList.remove("here");
    here = to;
    grid.children[here].classList.add("here");
    $("status").textContent = `row ${Math.floor(here / cells) + 1}, column ${(here % cells) + 1}${hidden.has(here) ? ", hidden" : ""}`;
  };
  grid.addEventListener("keydown", (event) => {
    const step = ARROWS[event.key];
    if (!step && ![" ", "Enter"].includes(event.key)) return;
    event.preventDefault();
    if (!step) {
      set(here, !hidden.has(here));
      return;
    }
    const row = Math.floor(here / cells) + step[0], column = (here % cells) + step[1];
    if (Math.min(row, column) >= 0 && Math.max(row, column) < cells) move(cells * row + column);
  });
  move(here);
  $("status").textContent = "";
}

const AND = new Intl.ListFormat("en-GB");
const signed = (value) => value.toFixed(2).replace("-", "−");
const withRange = (of) => `${signed(of.value)} (${signed(of.low)} to ${signed(of.high)})`;
const OUTCOMES = { 1: ["●", "passed"], 0: ["○", "not significant"], "-1": ["✕", "failed"] };

// A labelled <select>; hidden while it has nothing to choose.
function chooser(title, onchange) {
  const select = element("select", { onchange });
  const box = element("label", {}, title, select);
  const fill = (options, value) => {
    select.replaceChildren(...options.map(([key, text]) => element("option", { value: key }, text)));
    select.value = value ?? "";
    box.hidden = !options.length;
  };
  return { select, box, fill };
}

function panel(role) {
  const facts = run.models[role];
  const list = element("ul", { className: "predictions" });
  const canvas = element("canvas", { width: 256, height: 256, className: "smooth", role: "img", "aria-label": "No heatmap yet" });
  const none = element("div", { className: "none", hidden: true });
  const summary = element("div", { className: "summary" });
  const method = chooser("Method", () => { fillChoices(); refresh(); });
  const target = chooser("Target class", refresh);
  const layer = chooser("Layer", refresh);
  const head = chooser("Head", refresh);
  method.box.classList.add("wide");
  method.fill(Object.entries(facts.methods).map(([key, m]) => [key, m.label + (m.class_specific ? "" : " (not class-specific)")]), facts.default_method);
  target.fill([["", "predicted class"], ...run.class_names.map((c) => [c, c])]);
  const checks = element("ul", { className: "checks" });
  $("live").append(element("section", { className: "panel", id: `${role}-panel`, "aria-label": facts.label },
    element("h2", { className: role }, facts.label, element("small", {}, `${facts.parameters.toLocaleString("en")} parameters`)),
    list, element("div", { className: "frame" }, canvas, none),
    element("div", { className: "controls" }, method.box, target.box, layer.box, head.box), summary,
    element("details", {}, element("summary", {}, "Can this method be trusted?"), checks),
    ...facts.not_offered.map(({ methods, because }) => element("p", { className: "quiet" }, `Not offered: ${AND.format(methods)}, because ${because}.`))));
  let found = null;

  function fillChoices() {
    const m = facts.methods[method.select.value];
    layer.fill(m.layers.map((l) => [l, m.heads ? `block ${l}` : l]), m.layer);
    head.fill(m.heads ? [["", "mean of all"], ...Array.from({ length: m.heads }, (_, i) => [i + 1, i + 1])] : []);
    target.box.hidden = !m.class_specific;
    checks.replaceChildren(...m.checks.map((c) => {
      const [mark, words] = OUTCOMES[c.outcome] ?? ["–", "not applicable"];
      return element("li", {}, element("span", { "aria-hidden": "true" }, mark), element("span", {}, `${c.what}: ${words} (${c.value})`));
    }));
    if (!m.checks.length) checks.replaceChildren(element("li", {}, "", "Not measured in this experiment."));
  }

  async function explain(query) {
    const wanted = new URLSearchParams(query);
    wanted.set("model", role);
    for (const [key, choice] of Object.entries({ method, class: target, layer, head })) {
      if (!choice.box.hidden && choice.select.value) wanted.set(key, choice.select.value);
    }
    found = (await request(`/api/explain?${wanted}`, image)).models[role];
    draw();
  }

  function draw() {
    if (!found || !shown) return;
    const m = facts.methods[found.method];
    none.hidden = found.map !== null;
    const of = found.class_specific ? ` for “${found.class}”` : "";
    let words = `${facts.label}, ${m.label}${of}: highest ${found.highest} of ${label}`;
    if (found.map) drawHeat(canvas, shown, found.map, run.colours, Number($("opacity").value) / 100);
    else words = none.textContent = `Degenerate map${of}: it is ${found.degenerate_because}.`;
    canvas.setAttribute("aria-label", words);
    summary.replaceChildren(
      found.map === null ? "" : element("p", {}, element("b", {}, `Highest ${found.highest}. `),
        found.class_specific ? `Bright cells are evidence for “${found.class}” (${percent(found.confidence)}).` : "Not class-specific: the map shows where the model looks, not what supports its prediction.",
        m.baseline ? " The image is compared with the mean colour of the training images." : "",
        m.signed ? " Evidence against the class is dark, like no evidence." : ""),
      element("p", {}, m.srg ? `Faithfulness (SRG, ${m.n} test images): ${withRange(m.srg)}. A map that knows nothing scores 0; higher is better.${m.class_specific && m.contrast ? ` Contrast: ${withRange(m.contrast)}, its lead over the map of the second most probable class.` : ""}` : "Faithfulness was not measured in this experiment."));
  }

  function predictions(top) {
    list.replaceChildren(...top.map((guess) => element("li", {},
      element("span", {}, guess.class), element("span", {}, percent(guess.confidence)),
      element("span", { className: `bar ${role}`, "aria-hidden": "true" }, element("i", { style: `width: ${100 * guess.confidence}%` })))));
  }

  fillChoices();
  return { explain, predictions, draw };
}
