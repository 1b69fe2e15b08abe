// The explorer of test images. `source` gives what it shows, from the API or from the report itself:
//   run: class_names, colours      images, buckets: as /api/images gives them
//   image(index): an address       explain(image): as /api/explain gives it, a promise
//   confusion: {cnn, vit}, counts  more(image): what to add about one, or null
//   read(), write(query): the address of the page         showError(error)

import { NAMES, drawHeat, drawLegend, element, percent, pixelsOf } from "./heat.js";

const TILE = 72;
const at = (id) => document.getElementById(`explorer-${id}`);
const form = at("filters");
const tiles = new Map();
const decimal = (value) => value.toFixed(2).replace("-", "−");
let source, run, all = [], buckets = {}, shown = [], selected = null, touched = false, waiting;

export function explore(from) {
  source = from;
  ({ run, images: all, buckets } = source);
  document.getElementById("explorer").hidden = false;
  choices();
  matrices();
  restore();
  touched = false;  // the address changes when the visitor chooses, not before
  form.addEventListener("input", changed);
  form.addEventListener("reset", () => setTimeout(changed));  // once the form has its defaults again
  form.addEventListener("submit", (event) => event.preventDefault());
  at("wall").addEventListener("scroll", () => requestAnimationFrame(paint));
  at("wall").addEventListener("keydown", keys);
  addEventListener("resize", () => requestAnimationFrame(() => { follow(); paint(); }));
  drawLegend(at("legend"), run.colours);
}

function changed() {
  touched = true;
  outputs();
  choose();
}

function choices() {
  const count = (key, value) => all.filter((p) => p[key] === value).length;
  const fill = (name, options) => form[name].replaceChildren(
    element("option", { value: "" }, "all"),
    ...options.map(([value, text]) => element("option", { value }, `${text} (${count(name, value).toLocaleString("en")})`)));
  fill("bucket", Object.entries(buckets));
  for (const name of ["true", "cnn", "vit"]) fill(name, run.class_names.map((c) => [c, c]));
  form.either.replaceChildren(...["", ...run.class_names].map((c) => element("option", { value: c }, c || "all")));
}

function outputs() {
  const show = (name, text) => { form.querySelector(`[data-of=${name}]`).textContent = text; };
  for (const name of ["cnn_confidence", "vit_confidence"]) show(name, Number(form[name].value) ? `${form[name].value} %` : "any");
  show("similarity", Number(form.similarity.value) > -100 ? decimal(form.similarity.value / 100) : "any");
}

const DEFAULTS = { bucket: "", true: "", cnn: "", vit: "", either: "", cnn_confidence: "0", vit_confidence: "0", similarity: "-100", sort: "index" };

function restore() {
  const wanted = source.read();
  for (const [name, value] of Object.entries(DEFAULTS)) {
    form[name].value = wanted.get(name) ?? value;
    if (form[name].selectedIndex === -1 || (form[name].type === "range" && !/^-?\d+$/.test(wanted.get(name) ?? "0"))) form[name].value = value;
  }
  selected = /^\d+$/.test(wanted.get("image") ?? "") ? Number(wanted.get("image")) : null;
  outputs();
  choose(true);
}

function remember() {
  if (!touched) return;
  const state = new URLSearchParams();
  for (const [name, value] of Object.entries(DEFAULTS)) if (form[name].value !== value) state.set(name, form[name].value);
  if (selected !== null) state.set("image", selected);
  source.write(state.toString());
}

const ORDERS = {
  index: (p) => p.index,
  cnn_confidence: (p) => -p.cnn_confidence,
  vit_confidence: (p) => -p.vit_confidence,
  difference: (p) => -Math.abs(p.cnn_confidence - p.vit_confidence),
  agreement: (p) => (p.similarity === null ? 2 : -p.similarity),
  disagreement: (p) => (p.similarity === null ? 2 : p.similarity),
};

function choose(first = false) {
  const keys = ["bucket", "true", "cnn", "vit"].filter((name) => form[name].value);
  const cnn = form.cnn_confidence.value / 100, vit = form.vit_confidence.value / 100, agreement = form.similarity.value / 100;
  const either = form.either.value;
  shown = all.filter((p) => keys.every((name) => p[name] === form[name].value) && (!either || p.cnn === either || p.vit === either)
    && p.cnn_confidence >= cnn && p.vit_confidence >= vit && (agreement <= -1 || (p.similarity !== null && p.similarity >= agreement)));
  const order = ORDERS[form.sort.value];
  shown = shown.map((p) => [order(p), p]).sort((a, b) => a[0] - b[0] || a[1].index - b[1].index).map(([, p]) => p);
  at("count").textContent = `${shown.length.toLocaleString("en")} ${shown.length === 1 ? "image" : "images"}`;
  const place = shown.findIndex((p) => p.index === selected);
  tiles.forEach((tile) => tile.remove());
  tiles.clear();
  // A link to an image that is not listed shows none, rather than another.
  if (place < 0) selected = first && selected !== null ? null : shown[0]?.index ?? null;
  at("wall").scrollTop = 0;
  select(selected, place > 0);
  at("matrices").querySelectorAll("button").forEach((b) => {
    const on = b.dataset.true === form.true.value && ["cnn", "vit", "either"].every((n) => (b.dataset[n] ?? "") === form[n].value);
    b.classList.toggle("chosen", on && Boolean(form.true.value));
    b.setAttribute("aria-pressed", on && Boolean(form.true.value));
  });
}

const columns = () => Math.max(1, Math.floor(at("wall").clientWidth / TILE));
const rowHeight = () => at("wall").clientWidth / columns() + 8;  // a square image, and two marks

function stretch() {
  at("inner").style.height = `${rowHeight() * Math.ceil(shown.length / columns())}px`;
}

// Only the tiles in view, and two rows around them, are in the page.
function paint() {
  const wall = at("wall"), n = columns(), width = wall.clientWidth / n, row = rowHeight();
  stretch();
  const from = Math.max(0, n * (Math.floor(wall.scrollTop / row) - 2));
  const to = Math.min(shown.length, n * (Math.ceil((wall.scrollTop + wall.clientHeight) / row) + 2));
  const wanted = new Set();
  for (let i = from; i < to; i++) {
    const p = shown[i];
    wanted.add(p.index);
    let tile = tiles.get(p.index);
    if (!tile) {
      tile = element("div", { className: "tile", role: "option", id: `image-${p.index}` },
        element("img", { src: source.image(p.index), alt: "", width: 32, height: 32 }),
        element("span", {}, ...["cnn", "vit"].map((name) => element("i", { className: `${name} ${p[name] === p.true ? "ok" : "no"}` }))));
      tile.setAttribute("aria-label", `Test image ${p.index}, ${p.true}; ${prediction(p, "cnn")}; ${prediction(p, "vit")}`);
      tile.addEventListener("click", () => { touched = true; select(p.index); at("detail").scrollIntoView({ block: "nearest" }); });
      tiles.set(p.index, tile);
      at("inner").append(tile);
    }
    tile.style.cssText = `top:${row * Math.floor(i / n)}px;left:${width * (i % n)}px;width:${width}px`;
    tile.setAttribute("aria-selected", p.index === selected);
    tile.setAttribute("aria-posinset", i + 1);
    tile.setAttribute("aria-setsize", shown.length);
  }
  tiles.forEach((tile, index) => { if (!wanted.has(index)) { tile.remove(); tiles.delete(index); } });
  if (tiles.has(selected)) wall.setAttribute("aria-activedescendant", `image-${selected}`);
  else wall.removeAttribute("aria-activedescendant");
}

const outcome = (p, name) => `${percent(p[`${name}_confidence`])}, ${p[name] === p.true ? "correct" : "wrong"}`;
const prediction = (p, name) => `${NAMES[name]} predicts ${p[name]}, ${outcome(p, name)}`;

function keys(event) {
  const n = columns(), place = shown.findIndex((p) => p.index === selected);
  const page = n * Math.max(1, Math.floor(at("wall").clientHeight / rowHeight()));
  const step = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: n, ArrowUp: -n, PageDown: page, PageUp: -page, Home: -place, End: shown.length - 1 - place }[event.key];
  if (step === undefined || !shown.length) return;
  event.preventDefault();
  touched = true;
  const to = Math.min(shown.length - 1, Math.max(0, place + step));
  select(shown[to].index, true);
}

function select(index, scroll = false) {
  selected = index;
  remember();
  if (scroll) follow();
  paint();
  const p = all.find((image) => image.index === index);
  at("detail").hidden = !p;
  if (p) at("title").textContent = `Test image ${p.index}: ${p.true}`;
  clearTimeout(waiting);
  if (p) waiting = setTimeout(() => detail(p), scroll ? 80 : 0);  // not while keys are held down
}

// Scroll so far that the chosen image is in view.
function follow() {
  const place = shown.findIndex((p) => p.index === selected);
  if (place < 0) return;
  stretch();  // else there is nothing yet to scroll over
  const wall = at("wall"), row = rowHeight(), top = row * Math.floor(place / columns());
  if (top < wall.scrollTop) wall.scrollTop = top;
  else if (top + row > wall.scrollTop + wall.clientHeight) wall.scrollTop = top + row - wall.clientHeight;
}

async function detail(p) {
  at("more").replaceChildren(...[source.more(p)].filter(Boolean));
  const frame = (title, caption, canvas) => element("figure", {}, title, element("div", { className: "frame" }, canvas), element("figcaption", {}, ...caption));
  const plain = element("canvas", { width: 32, height: 32, role: "img" });
  plain.setAttribute("aria-label", `${p.true}, 32 by 32 pixels`);
  const maps = Object.fromEntries(["cnn", "vit"].map((name) => [name, element("canvas", { width: 128, height: 128, className: "smooth", role: "img" })]));
  at("trio").replaceChildren(
    frame(element("b", {}, "Image"), [p.true], plain),
    ...["cnn", "vit"].map((name) => frame(element("b", { className: name }, NAMES[name]), [element("b", {}, p[name]), ` ${outcome(p, name)}`], maps[name])));
  at("description").textContent = "";
  try {
    const pixels = await pixelsOf(source.image(p.index));
    plain.getContext("2d").putImageData(new ImageData(new Uint8ClampedArray(pixels), 32, 32), 0, 0);
    const { models } = await source.explain(p);
    const sentences = [];
    for (const [name, found] of Object.entries(models)) {
      if (found.map) drawHeat(maps[name], pixels, found.map, run.colours, 0.6);
      else maps[name].after(element("div", { className: "none" }, `degenerate: ${found.degenerate_because}`));
      const what = found.map ? `highest ${found.highest}` : "degenerate";
      maps[name].setAttribute("aria-label", `${found.label} of the ${NAMES[name]} for ${found.class}: ${what}`);
      sentences.push(`${found.label} of the ${NAMES[name]} for “${found.class}”: ${what}.`);
    }
    if (p.index !== selected) return;
    if (p.similarity !== null) sentences.push(`Rank correlation of the two: ${decimal(p.similarity)}.`);
    at("description").textContent = sentences.join(" ");
    source.showError(null);
  } catch (error) {
    if (p.index === selected) source.showError(error);
  }
}

const MANY = 30;  // classes; more make tables that nobody can read

function matrices() {
  const names = run.class_names;
  if (names.length > MANY) {
    at("matrices").textContent = `The confusion matrices of ${names.length} classes are not shown.`;
    return;
  }
  const both = source.confusion;
  const difference = both.cnn.map((row, i) => row.map((v, j) => v - both.vit[i][j]));
  const largest = Math.max(1, ...difference.flat().map(Math.abs));
  const tint = (kind, share) => `rgba(var(--${kind}), calc(var(--strength) * ${share}))`;
  for (const name of ["cnn", "vit"]) {
    at("matrices").append(matrix(element("span", {}, element("span", { className: name }, NAMES[name]), ": true class by rows, prediction by columns"), both[name],
      (v, row) => tint("share", v / Math.max(1, row.reduce((a, b) => a + b))), (i, j) => ({ true: names[i], [name]: names[j] }), (v, i, j) => `${NAMES[name]}: ${v} images of ${names[i]} predicted as ${names[j]}`));
  }
  at("matrices").append(matrix(element("span", {}, "CNN minus ViT: ", element("span", { className: "cnn" }, "more by the CNN"), ", ", element("span", { className: "vit" }, "more by the ViT")), difference,
    (v) => tint(v > 0 ? "more" : "less", Math.abs(v) / largest),
    (i, j) => ({ true: names[i], either: names[j] }), (v, i, j) => `${v > 0 ? "+" : ""}${v}: ${names[i]} predicted as ${names[j]}, CNN minus ViT`));
}

function matrix(title, rows, colour, choice, label) {
  const names = run.class_names;
  const body = rows.map((row, i) => element("tr", {}, element("th", { scope: "row" }, names[i]), ...row.map((value, j) => {
    const button = element("button", { type: "button", tabIndex: i + j ? -1 : 0 }, value ? String(value).replace("-", "−") : "·");
    button.style.backgroundColor = colour(value, row);
    Object.assign(button.dataset, choice(i, j));
    button.setAttribute("aria-label", label(value, i, j));
    button.addEventListener("click", () => {
      for (const [name, fallback] of Object.entries(DEFAULTS)) form[name].value = choice(i, j)[name] ?? fallback;
      changed();
      at("filters").scrollIntoView({ block: "nearest" });
    });
    return element("td", {}, button);
  })));
  const table = element("table", {}, element("thead", {}, element("tr", {}, element("td"), ...names.map((c) => element("th", { scope: "col" }, element("span", {}, c))))), element("tbody", {}, ...body));
  table.style.minWidth = `${5.4 + 1.82 * names.length}rem`;
  table.addEventListener("keydown", (event) => {  // one stop for the tab key, arrows inside
    const from = event.target.closest("td");
    const step = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key];
    if (!from || !step) return;
    event.preventDefault();
    const row = from.parentElement.parentElement.rows[from.parentElement.sectionRowIndex + step[0]];
    const to = row?.cells[from.cellIndex + step[1]]?.querySelector("button");
    if (!to) return;
    from.querySelector("button").tabIndex = -1;
    to.tabIndex = 0;
    to.focus();
  });
  return element("div", {}, element("p", { className: "heading" }, title), element("div", { className: "scroll" }, table));
}
