import { NAMES, drawHeat, drawLegend, element, percent, pixelsOf } from "./heat.js";
import { ask, fault, tell } from "./page.js";

const $ = (id) => document.getElementById(id);
const CELLS = 8;
let run;
let image = null;  // the 32 x 32 pixels as a PNG: what the server makes of any file
let pixels = null;
let shown = null;  // the pixels with the hidden cells: what the models see
let hidden = new Set();
let label = "your image";
const panels = {};

start();

async function start() {
  try {
    run = await ask("/api/run");
  } catch (error) {
    fault(error);
    return;
  }
  tell(run);
  $("live").hidden = false;
  drawLegend($("legend"), run.colours);
  for (const name of Object.keys(run.models)) panels[name] = panel(name);
  cells();
  $("camera-label").hidden = !matchMedia("(pointer: coarse)").matches;
  for (const input of [$("file"), $("camera")]) {
    input.addEventListener("change", () => { if (input.files[0]) take(input.files[0], input.files[0].name); input.value = ""; });
  }
  $("opacity").addEventListener("input", () => Object.values(panels).forEach((p) => p.draw()));
  $("show-all").addEventListener("click", () => { hidden.clear(); marked(); refresh(); });
  $("another").addEventListener("click", another);
  document.addEventListener("paste", (event) => {
    const file = [...(event.clipboardData?.files ?? [])][0];
    if (file) take(file, "the pasted image");
  });
  document.addEventListener("dragover", (event) => { event.preventDefault(); $("own").classList.add("drop"); });
  document.addEventListener("dragleave", (event) => { if (!event.relatedTarget) $("own").classList.remove("drop"); });
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    $("own").classList.remove("drop");
    const file = event.dataTransfer.files[0];
    if (file) take(file, file.name);
    else fault(new Error("what was dropped is no file; save the image, and drop the file"));
  });
  const asked = new URLSearchParams(location.search).get("image");
  if (asked !== null && /^\d+$/.test(asked)) await testImage(asked);
  else await another();
}

// A test image that both models get right, and then any other, at random.
async function another() {
  try {
    if (!image) {
      const { images } = await ask("/api/images?bucket=both_correct&limit=1");
      if (images.length) return await testImage(images[0].index);
    }
    const { total } = await ask("/api/images?limit=1");
    const { images } = await ask(`/api/images?limit=1&offset=${Math.floor(Math.random() * total)}`);
    await testImage(images[0].index);
  } catch (error) {
    if (error.status === 409) $("another").hidden = true;  // no test images here; own ones still work
    else fault(error);
  }
}

async function testImage(index) {
  const answer = await fetch(`/api/images/${index}.png`);
  if (!answer.ok) {
    fault(new Error(`there is no test image ${index}`));
    return;
  }
  await take(await answer.blob(), `test image ${index}`, `?image=${index}`);
}

let taken = 0;

async function take(file, name, address = location.pathname) {
  const mine = ++taken;  // a slow image must not replace a later one
  if (file.size > 20e6) {
    fault(new Error(`${name} has ${(file.size / 1e6).toFixed(0)} MB; a image file may have up to 20`));
    return;
  }
  try {
    const { seen } = await ask("/api/predict", file);
    const bytes = Uint8Array.from(atob(seen.split(",")[1]), (c) => c.charCodeAt(0));
    const small = new Blob([bytes], { type: "image/png" });
    const found = await pixelsOf(small);
    if (mine !== taken) return;
    [image, pixels] = [small, found];
  } catch (error) {
    if (mine === taken) fault(error);  // the image before stays
    return;
  }
  fault(null);
  label = name;
  history.replaceState(null, "", address);
  hidden.clear();
  $("prompt").hidden = true;
  $("cells").hidden = false;
  marked();
  await refresh();
}

let asking = false, again = false;

// Ask both models. While an answer is under way only the latest wish is kept.
async function refresh() {
  if (!image) return;
  if (asking) { again = true; return; }
  asking = true;
  $("live").setAttribute("aria-busy", true);
  do {
    again = false;
    try {
      const query = hidden.size ? `hidden=${[...hidden].join(",")}` : "";
      const [{ models }] = await Promise.all([
        ask(`/api/predict?${query}`, image),
        ...Object.values(panels).map((p) => p.explain(query)),
      ]);
      for (const [name, answer] of Object.entries(models)) panels[name].answer(answer.top);
      const heard = Object.entries(models).map(([name, { top }]) => `${NAMES[name]}: ${top[0].class}, ${percent(top[0].confidence)}`);
      $("status").textContent = heard.join("; ");
      fault(null);
    } catch (error) {
      fault(error);
    }
  } while (again);
  asking = false;
  $("live").setAttribute("aria-busy", false);
}

function marked() {
  const context = $("seen").getContext("2d");
  context.putImageData(new ImageData(new Uint8ClampedArray(pixels), 32, 32), 0, 0);
  context.fillStyle = `rgb(${run.hidden_colour})`;
  for (const cell of hidden) context.fillRect(4 * (cell % CELLS), 4 * Math.floor(cell / CELLS), 4, 4);
  shown = context.getImageData(0, 0, 32, 32).data;
  $("seen").setAttribute("aria-label", `${label}, 32 by 32 pixels${hidden.size ? `, ${hidden.size} of 64 cells hidden` : ""}`);
  [...$("cells").children].forEach((cell, i) => cell.classList.toggle("gone", hidden.has(i)));
  $("hidden-count").textContent = hidden.size ? `${hidden.size} of 64 cells hidden` : "";
  $("show-all").disabled = !hidden.size;
}

function cells() {
  const grid = $("cells");
  for (let i = 0; i < CELLS ** 2; i++) grid.append(element("i"));
  let here = 27, hides = null;
  const set = (cell, gone) => {
    if (hidden.has(cell) === gone) return;
    if (gone) hidden.add(cell); else hidden.delete(cell);
    marked();
    refresh();
  };
  const under = (event) => {
    const box = grid.getBoundingClientRect();
    const place = (p, low, size) => Math.min(CELLS - 1, Math.max(0, Math.floor((CELLS * (p - low)) / size)));
    return CELLS * place(event.clientY, box.top, box.height) + place(event.clientX, box.left, box.width);
  };
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
    $("status").textContent = `row ${Math.floor(here / CELLS) + 1}, column ${(here % CELLS) + 1}${hidden.has(here) ? ", hidden" : ""}`;
  };
  grid.addEventListener("keydown", (event) => {
    const row = Math.floor(here / CELLS), column = here % CELLS;
    const to = { ArrowUp: row > 0 && here - CELLS, ArrowDown: row < CELLS - 1 && here + CELLS, ArrowLeft: column > 0 && here - 1, ArrowRight: column < CELLS - 1 && here + 1 }[event.key];
    if (to !== undefined) { event.preventDefault(); if (to !== false) move(to); }
    if (event.key === " " || event.key === "Enter") { event.preventDefault(); set(here, !hidden.has(here)); }
  });
  move(here);
  $("status").textContent = "";
}

const signed = (value) => value.toFixed(2).replace("-", "−");

function chooser(title, options, changed) {
  const select = element("select", {}, ...options.map(([value, text]) => element("option", { value }, text)));
  select.addEventListener("change", changed);
  return { select, whole: element("label", {}, title, select) };
}

function panel(name) {
  const facts = run.models[name];
  const answers = element("ul", { className: "predictions" });
  const canvas = element("canvas", { width: 256, height: 256, className: "smooth", role: "img" });
  canvas.setAttribute("aria-label", "No heatmap yet");
  const none = element("div", { className: "none", hidden: true });
  const said = element("div", { className: "summary" });
  const method = chooser("Method", Object.entries(facts.methods).map(([key, m]) => [key, m.label + (m.class_specific ? "" : " (knows no class)")]), () => { offer(); refresh(); });
  const asked = chooser("Evidence for", [["", "the class it names"], ...run.class_names.map((c) => [c, c])], refresh);
  const layer = chooser("Layer", [], refresh);
  const head = chooser("Head", [], refresh);
  method.whole.classList.add("wide");
  const checks = element("details", {}, element("summary", {}, "Can this map be trusted?"));
  const list = element("ul", { className: "checks" });
  checks.append(list);
  const whole = element("section", { className: "panel", id: `${name}-panel` },
    element("h2", { className: name }, NAMES[name], element("small", {}, `${facts.parameters.toLocaleString("en")} parameters`)),
    answers, element("div", { className: "frame" }, canvas, none),
    element("div", { className: "controls" }, method.whole, asked.whole, layer.whole, head.whole), said, checks);
  whole.setAttribute("aria-label", NAMES[name]);
  $("live").append(whole);
  let found = null;

  function offer() {
    const m = facts.methods[method.select.value];
    const fill = (choice, options, value) => {
      choice.select.replaceChildren(...options.map(([v, text]) => element("option", { value: v }, text)));
      choice.select.value = value ?? "";
      choice.whole.hidden = !options.length;
    };
    const block = m.heads ? "block " : "";
    fill(layer, m.layers.map((l) => [l, block + l]), m.layer);
    fill(head, m.heads ? [["", "mean of all"], ...Array.from({ length: m.heads }, (_, i) => [String(i + 1), String(i + 1)])] : [], "");
    asked.whole.hidden = !m.class_specific;
    const outcome = { 1: ["●", "shown"], 0: ["○", "not shown"], "-1": ["✕", "the contrary was shown"] };
    list.replaceChildren(...m.checks.map((c) => {
      const [mark, words] = outcome[c.outcome] ?? ["–", "not asked"];
      return element("li", {}, element("span", { "aria-hidden": "true" }, mark), element("span", {}, `${c.what}: ${words} (${c.value})`));
    }));
    if (!m.checks.length) list.replaceChildren(element("li", {}, "", "Not measured in this experiment."));
  }

  async function explain(query) {
    const wish = new URLSearchParams(query);
    wish.set("model", name);
    wish.set("method", method.select.value);
    if (!asked.whole.hidden && asked.select.value) wish.set("class", asked.select.value);
    if (!layer.whole.hidden) wish.set("layer", layer.select.value);
    if (!head.whole.hidden && head.select.value) wish.set("head", head.select.value);
    found = (await ask(`/api/explain?${wish}`, image)).models[name];
    draw();
  }

  function draw() {
    if (!found || !shown) return;
    const m = facts.methods[found.method];
    none.hidden = found.map !== null;
    const of = found.class_specific ? ` for “${found.class}”` : "";
    if (found.map === null) {
      none.textContent = `No evidence${of}: the map is ${found.degenerate_because}.`;
      canvas.setAttribute("aria-label", none.textContent);
    } else {
      drawHeat(canvas, shown, found.map, run.colours, Number($("opacity").value) / 100);
      canvas.setAttribute("aria-label", `${m.label} of the ${NAMES[name]}${of}: highest ${found.highest} of ${label}`);
    }
    said.replaceChildren(
      found.map === null ? "" : element("p", {}, element("b", {}, `Highest ${found.highest}. `),
        found.class_specific ? `Bright cells speak for “${found.class}” (${percent(found.confidence)}).` : "It knows no class: it says where the model reads from, not what speaks for its answer.",
        m.signed ? " What speaks against it is dark, like what says nothing." : ""),
      element("p", {}, m.deletion ? `Faithfulness (normalised deletion, ${m.n} test images): ${signed(m.deletion.value)} (${signed(m.deletion.low)} to ${signed(m.deletion.high)}). 0 is as a random map; 1 as removing first the cells that count most one by one; more is better still.` : "How faithful such maps are was not measured."));
  }

  function answer(top) {
    answers.replaceChildren(...top.map((guess) => {
      const bar = element("i");
      bar.style.width = `${100 * guess.confidence}%`;
      return element("li", {}, element("span", {}, guess.class), element("span", {}, percent(guess.confidence)), element("span", { className: `bar ${name}`, "aria-hidden": "true" }, bar));
    }));
  }

  offer();
  return { explain, answer, draw };
}
