// The explorer of test images. `source` gives what it shows, from the API or from the report itself:
//   run: class_names, colours      images, buckets: as /api/images gives them
//   image(index): an address       explain(image): as /api/explain gives it, a promise
//   confusion: {cnn, vit}, counts  more(image): what to add about one
//   read(), write(query): the address of the page         showError(error)

import { ARROWS, NAMES, drawHeat, drawLegend, element, imagePixels, percent } from "./heat.js";

const at = (id) => document.getElementById(`explorer-${id}`);
const form = at("filters"), wall = at("wall");
const decimal = (value) => value.toFixed(2).replace("-", "−");
const choice = () => Object.fromEntries(new FormData(form));
let source, defaults, shown = [], selected = null, waiting;

export function explore(from) {
  source = from;
  document.getElementById("explorer").hidden = false;
  choices();
  matrices();
  restore();
  form.addEventListener("input", changed);
  form.addEventListener("reset", () => setTimeout(changed));  // once the form has its defaults again
  form.addEventListener("submit", (event) => event.preventDefault());
  wall.addEventListener("keydown", keys);
  wall.addEventListener("scroll", () => { if (wall.scrollTop + 2 * wall.clientHeight > wall.scrollHeight) extend(); });
  drawLegend(at("legend"), source.run.colours);
}

function changed() {
  outputs();
  choose();
  remember();
}

function choices() {
  const count = (key, value) => source.images.filter((p) => p[key] === value).length;
  const fill = (name, options) => form[name].replaceChildren(
    element("option", { value: "" }, "all"),
    ...options.map(([value, text]) => element("option", { value }, `${text} (${count(name, value).toLocaleString("en")})`)));
  fill("bucket", Object.entries(source.buckets));
  const names = source.run.class_names;
  for (const name of ["true", "cnn", "vit"]) fill(name, names.map((c) => [c, c]));
  form.either.replaceChildren(...["", ...names].map((c) => element("option", { value: c }, c || "all")));
  defaults = choice();
}

function outputs() {
  const show = (name, text) => {
    form.querySelector(`[data-of=${name}]`).textContent = form[name].value === defaults[name] ? "any" : text;
  };
  for (const name of ["cnn_confidence", "vit_confidence"]) show(name, `${form[name].value} %`);
  show("similarity", decimal(form.similarity.value / 100));
}

function restore() {
  const wanted = source.read();
  for (const [name, value] of Object.entries(defaults)) {
    form[name].value = wanted.get(name) ?? value;
    if (form[name].value !== wanted.get(name)) form[name].value = value;  // there is no such choice
  }
  selected = wanted.has("image") ? Number(wanted.get("image")) : null;
  outputs();
  choose(selected !== null);
}

function remember() {
  const state = new URLSearchParams([...new FormData(form)].filter(([name, value]) => value !== defaults[name]));
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

// A link to an image that is not listed shows none, rather than another.
function choose(linked = false) {
  const wanted = choice();
  const keys = ["bucket", "true", "cnn", "vit"].filter((name) => wanted[name]);
  shown = source.images.filter((p) => keys.every((name) => p[name] === wanted[name])
    && (!wanted.either || p.cnn === wanted.either || p.vit === wanted.either)
    && p.cnn_confidence >= wanted.cnn_confidence / 100 && p.vit_confidence >= wanted.vit_confidence / 100
    && (wanted.similarity === defaults.similarity || (p.similarity !== null && p.similarity >= wanted.similarity / 100)));
  const order = ORDERS[wanted.sort];
  shown.sort((a, b) => order(a) - order(b) || a.index - b.index);
  at("count").textContent = `${shown.length.toLocaleString("en")} ${shown.length === 1 ? "image" : "images"}`;
  wall.replaceChildren();
  extend();
  select(shown.find((p) => p.index === selected) ?? (linked ? undefined : shown[0]));
  at("matrices").querySelectorAll("button").forEach((b) => {
    const on = ["true", "cnn", "vit", "either"].every((name) => (b.dataset[name] ?? "") === wanted[name]);
    b.setAttribute("aria-pressed", on);
  });
}

const outcome = (p, name) => `${percent(p[`${name}_confidence`])}, ${p[name] === p.true ? "correct" : "wrong"}`;
const prediction = (p, name) => `${NAMES[name]} predicts ${p[name]}, ${outcome(p, name)}`;

// The wall gets its tiles before they come into view.
function extend(to = wall.children.length + 300) {
  for (let i = wall.children.length; i < Math.min(to, shown.length); i++) wall.append(tile(shown[i], i));
}

function tile(p, place) {
  const label = `Test image ${p.index}, ${p.true}; ${prediction(p, "cnn")}; ${prediction(p, "vit")}`;
  const marks = ["cnn", "vit"].map((name) => element("i", { className: `${name} ${p[name] === p.true ? "ok" : "no"}` }));
  const onclick = () => {
    select(p);
    remember();
    at("detail").scrollIntoView({ block: "nearest" });
  };
  return element("div", { className: "tile", role: "option", id: `image-${p.index}`, "aria-label": label, "aria-selected": false, "aria-posinset": place + 1, "aria-setsize": shown.length, onclick },
    element("img", { loading: "lazy", src: source.image(p.index), alt: "", width: 32, height: 32 }), element("span", {}, ...marks));
}

function keys(event) {
  const n = getComputedStyle(wall).gridTemplateColumns.split(" ").length;
  const place = shown.findIndex((p) => p.index === selected);
  const page = n * Math.max(1, Math.floor((wall.clientHeight * Math.ceil(shown.length / n)) / wall.scrollHeight));
  const step = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: n, ArrowUp: -n, PageDown: page, PageUp: -page, Home: -place, End: shown.length - 1 - place }[event.key];
  if (step === undefined || !shown.length) return;
  event.preventDefault();
  select(shown[Math.min(shown.length - 1, Math.max(0, place + step))]);
  remember();
}

function select(p) {
  document.getElementById(`image-${selected}`)?.setAttribute("aria-selected", false);
  selected = p?.index ?? null;
  at("detail").hidden = !p;
  clearTimeout(waiting);
  if (!p) {
    wall.removeAttribute("aria-activedescendant");
    return;
  }
  extend(shown.indexOf(p) + 300);
  const chosen = document.getElementById(`image-${selected}`), top = chosen.offsetTop;
  chosen.setAttribute("aria-selected", true);
  wall.setAttribute("aria-activedescendant", chosen.id);
  wall.scrollTop = Math.min(top, Math.max(wall.scrollTop, top + chosen.offsetHeight - wall.clientHeight));
  at("title").textContent = `Test image ${p.index}: ${p.true}`;
  waiting = setTimeout(() => detail(p), 80);  // not while keys are held down
}

async function detail(p) {
  at("more").replaceChildren(source.more(p));
  const frame = (title, caption, canvas) => element("figure", {}, title, element("div", { className: "frame" }, canvas), element("figcaption", {}, ...caption));
  const plain = element("canvas", { width: 32, height: 32, role: "img", "aria-label": `${p.true}, 32 by 32 pixels` });
  const maps = Object.fromEntries(["cnn", "vit"].map((name) => [name, element("canvas", { width: 128, height: 128, className: "smooth", role: "img" })]));
  at("trio").replaceChildren(
    frame(element("b", {}, "Image"), [p.true], plain),
    ...["cnn", "vit"].map((name) => frame(element("b", { className: name }, NAMES[name]), [element("b", {}, p[name]), ` ${outcome(p, name)}`], maps[name])));
  at("description").textContent = "";
  try {
    const pixels = await imagePixels(source.image(p.index));
    plain.getContext("2d").putImageData(new ImageData(new Uint8ClampedArray(pixels), 32, 32), 0, 0);
    const { models } = await source.explain(p);
    const sentences = [];
    for (const [name, found] of Object.entries(models)) {
      if (found.map) drawHeat(maps[name], pixels, found.map, source.run.colours, 0.6);
      else maps[name].after(element("div", { className: "none" }, `degenerate: ${found.degenerate_because}`));
      const words = `${found.label} of the ${NAMES[name]} for “${found.class}”: ${found.map ? `highest ${found.highest}` : "degenerate"}.`;
      maps[name].setAttribute("aria-label", words);
      sentences.push(words);
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
  const names = source.run.class_names, both = source.confusion;
  if (names.length > MANY) {
    at("matrices").textContent = `The confusion matrices of ${names.length} classes are not shown.`;
    return;
  }
  const tint = (kind, share) => `rgba(var(--${kind}), calc(var(--strength) * ${share}))`;
  for (const name of ["cnn", "vit"]) {
    matrix([element("span", { className: name }, NAMES[name]), ": true class by rows, prediction by columns"], both[name], name,
      (v, row) => tint("share", v / Math.max(1, row.reduce((a, b) => a + b))),
      (v, i, j) => `${NAMES[name]}: ${v} images of ${names[i]} predicted as ${names[j]}`);
  }
  const difference = both.cnn.map((row, i) => row.map((v, j) => v - both.vit[i][j]));
  const largest = Math.max(1, ...difference.flat().map(Math.abs));
  matrix(["CNN minus ViT: ", element("span", { className: "cnn" }, "more by the CNN"), ", ", element("span", { className: "vit" }, "more by the ViT")], difference, "either",
    (v) => tint(v > 0 ? "more" : "less", Math.abs(v) / largest),
    (v, i, j) => `${v > 0 ? "+" : ""}${v}: ${names[i]} predicted as ${names[j]}, CNN minus ViT`);
}

// A table of numbers; a click on one shows its images: true class by row, `filter` by column.
function matrix(title, rows, filter, colour, label) {
  const names = source.run.class_names;
  const onclick = ({ target }) => {
    for (const [name, fallback] of Object.entries(defaults)) form[name].value = target.dataset[name] ?? fallback;
    changed();
    form.scrollIntoView({ block: "nearest" });
  };
  const cell = (value, row, i, j) => element("td", {}, element("button", {
    type: "button", tabIndex: i + j ? -1 : 0, "data-true": names[i], [`data-${filter}`]: names[j],
    "aria-label": label(value, i, j), style: `background-color: ${colour(value, row)}`, onclick,
  }, value ? String(value).replace("-", "−") : "·"));
  const onkeydown = (event) => {  // one stop for the tab key, arrows inside
    const from = event.target.closest("td"), step = ARROWS[event.key];
    if (!from || !step) return;
    event.preventDefault();
    const to = body[from.parentElement.sectionRowIndex + step[0]]?.cells[from.cellIndex + step[1]]?.querySelector("button");
    if (!to) return;
    event.target.tabIndex = -1;
    to.tabIndex = 0;
    to.focus();
  };
  const body = rows.map((row, i) => element("tr", {}, element("th", { scope: "row" }, names[i]), ...row.map((value, j) => cell(value, row, i, j))));
  const head = names.map((c) => element("th", { scope: "col" }, element("span", {}, c)));
  const table = element("table", { style: `min-width: ${5.4 + 1.82 * names.length}rem`, onkeydown },
    element("thead", {}, element("tr", {}, element("td"), ...head)), element("tbody", {}, ...body));
  at("matrices").append(element("div", {}, element("p", { className: "heading" }, ...title), element("div", { className: "scroll" }, table)));
}
