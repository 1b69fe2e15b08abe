// The explorer of test images. `source` gives what it shows, from the API or from the report itself:
//   run: class_names, colours, labels: {first, second}
//   buckets, counts, confusion: as /api/images/counts gives them
//   find(wanted, offset): as /api/images gives it, a promise; wanted: its other parameters
//   image(index): an address       explain(image): as /api/explain gives it, a promise
//   read(), write(query): the address of the page         more(image): what to add about one
//   showError(error)

import { ARROWS, drawHeat, drawLegend, element, imagePixels, percent } from "./heat.js";

const ROLES = ["first", "second"];
const at = (id) => document.getElementById(`explorer-${id}`);
const form = at("filters"), wall = at("wall");
const decimal = (value) => value.toFixed(2).replace("-", "−");
const choice = () => Object.fromEntries(new FormData(form));
let source, defaults, selected = null, waiting;
let shown = [], total = 0;  // the images found, of which the first ones are here
let asked = 0, coming = null;

export function explore(from) {
  source = from;
  document.getElementById("explorer").hidden = false;
  document.querySelectorAll("#explorer [data-label]").forEach((e) => e.prepend(source.run.labels[e.dataset.label]));
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

async function changed() {
  outputs();
  await choose();
  remember();
}

function choices() {
  const fill = (name, options) => form[name].replaceChildren(
    element("option", { value: "" }, "all"),
    ...options.map(([value, text]) => element("option", { value }, `${text} (${(source.counts[name][value] ?? 0).toLocaleString("en")})`)));
  fill("bucket", Object.entries(source.buckets));
  const names = source.run.class_names;
  for (const name of ["true", ...ROLES]) fill(name, names.map((c) => [c, c]));
  form.either.replaceChildren(...["", ...names].map((c) => element("option", { value: c }, c || "all")));
  defaults = choice();
}

function outputs() {
  const show = (name, text) => {
    form.querySelector(`[data-of=${name}]`).textContent = form[name].value === defaults[name] ? "any" : text;
  };
  for (const name of ["first_confidence", "second_confidence"]) show(name, `${form[name].value} %`);
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

// What differs from the defaults, with fractions for percentages.
function wanted() {
  const entries = [...new FormData(form)].filter(([name, value]) => value !== defaults[name]);
  return Object.fromEntries(entries.map(([name, value]) => [name, form[name].type === "range" ? value / 100 : value]));
}

// A link to an image that is not listed shows none, rather than another.
async function choose(linked = false) {
  const mine = ++asked, chosen = choice();
  at("matrices").querySelectorAll("button").forEach((b) => {
    const on = ["true", ...ROLES, "either"].every((name) => (b.dataset[name] ?? "") === chosen[name]);
    b.setAttribute("aria-pressed", on);
  });
  wall.setAttribute("aria-busy", true);
  try {
    const found = await source.find(wanted(), 0);
    if (mine !== asked) return;  // another choice was made meanwhile
    [shown, total, coming] = [[], found.total, null];
    wall.replaceChildren();
    add(found.images);
    source.showError(null);
  } catch (error) {
    if (mine === asked) source.showError(error);
  }
  if (mine !== asked) return;
  wall.setAttribute("aria-busy", false);
  at("count").textContent = `${total.toLocaleString("en")} ${total === 1 ? "image" : "images"}`;
  const here = () => shown.find((p) => p.index === selected);
  while (linked && !here() && await extend());
  if (mine === asked) select(here() ?? (linked ? undefined : shown[0]));
}

const outcome = (p, role) => `${percent(p[`${role}_confidence`])}, ${p[role] === p.true ? "correct" : "wrong"}`;
const prediction = (p, role) => `${source.run.labels[role]} predicts ${p[role]}, ${outcome(p, role)}`;

function add(images) {
  wall.append(...images.map((p, i) => tile(p, shown.length + i)));
  shown.push(...images);
}

// The wall gets its tiles before they come into view. Whether there were more.
async function extend() {
  if (shown.length >= total || wall.ariaBusy === "true") return false;
  const mine = asked;
  coming ??= source.find(wanted(), shown.length)
    .then(({ images }) => {
      if (mine === asked) add(images);
      return mine === asked && images.length > 0;
    })
    .catch((error) => { source.showError(error); return false; })
    .finally(() => { if (mine === asked) coming = null; });
  return coming;
}

function tile(p, place) {
  const label = `Test image ${p.index}, ${p.true}; ${ROLES.map((role) => prediction(p, role)).join("; ")}`;
  const marks = ROLES.map((role) => element("i", { className: `${role} ${p[role] === p.true ? "ok" : "no"}` }));
  const onclick = () => {
    select(p);
    remember();
    at("detail").scrollIntoView({ block: "nearest" });
  };
  return element("div", { className: "tile", role: "option", id: `image-${p.index}`, "aria-label": label, "aria-selected": false, "aria-posinset": place + 1, "aria-setsize": total, onclick },
    element("img", { loading: "lazy", src: source.image(p.index), alt: "", width: 64, height: 64 }), element("span", {}, ...marks));
}

async function keys(event) {
  const n = getComputedStyle(wall).gridTemplateColumns.split(" ").length;
  const place = shown.findIndex((p) => p.index === selected);
  const page = n * Math.max(1, Math.floor((wall.clientHeight * Math.ceil(shown.length / n)) / wall.scrollHeight));
  const step = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: n, ArrowUp: -n, PageDown: page, PageUp: -page, Home: -place, End: total - 1 - place }[event.key];
  if (step === undefined || !shown.length) return;
  event.preventDefault();
  const to = Math.min(total - 1, Math.max(0, place + step));
  while (to >= shown.length && await extend());
  select(shown[Math.min(shown.length - 1, to)]);
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
  const plain = element("canvas", { role: "img", "aria-label": p.true });
  const maps = Object.fromEntries(ROLES.map((role) => [role, element("canvas", { width: 128, height: 128, className: "smooth", role: "img" })]));
  at("trio").replaceChildren(
    frame(element("b", {}, "Image"), [p.true], plain),
    ...ROLES.map((role) => frame(element("b", { className: role }, source.run.labels[role]), [element("b", {}, p[role]), ` ${outcome(p, role)}`], maps[role])));
  at("description").textContent = "";
  try {
    const pixels = await imagePixels(source.image(p.index));
    plain.width = plain.height = Math.sqrt(pixels.length / 4);
    plain.getContext("2d").putImageData(new ImageData(new Uint8ClampedArray(pixels), plain.width), 0, 0);
    const { models } = await source.explain(p);
    const sentences = [];
    for (const [role, found] of Object.entries(models)) {
      if (found.map) drawHeat(maps[role], pixels, found.map, source.run.colours, 0.6);
      else maps[role].after(element("div", { className: "none" }, `degenerate: ${found.degenerate_because}`));
      const words = `${source.run.labels[role]}, ${found.method_label} for “${found.class}”: ${found.map ? `highest ${found.highest}` : "degenerate"}.`;
      maps[role].setAttribute("aria-label", words);
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
  const names = source.run.class_names, both = source.confusion, { first, second } = source.run.labels;
  if (names.length > MANY) {
    at("matrices").textContent = `The confusion matrices of ${names.length} classes are not shown.`;
    return;
  }
  const tint = (kind, share) => `rgba(var(--${kind}), calc(var(--strength) * ${share}))`;
  for (const role of ROLES) {
    const label = source.run.labels[role];
    matrix([element("span", { className: role }, label), ": true class by rows, prediction by columns"], both[role], role,
      (v, row) => tint("share", v / Math.max(1, row.reduce((a, b) => a + b))),
      (v, i, j) => `${label}: ${v} images of ${names[i]} predicted as ${names[j]}`);
  }
  const difference = both.first.map((row, i) => row.map((v, j) => v - both.second[i][j]));
  const largest = Math.max(1, ...difference.flat().map(Math.abs));
  matrix([`${first} minus ${second}: `, element("span", { className: "first" }, `more by ${first}`), ", ", element("span", { className: "second" }, `more by ${second}`)], difference, "either",
    (v) => tint(v > 0 ? "more" : "less", Math.abs(v) / largest),
    (v, i, j) => `${v > 0 ? "+" : ""}${v}: ${names[i]} predicted as ${names[j]}, ${first} minus ${second}`);
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
