import { explore } from "./explore.js";
import { element } from "./heat.js";
import { ask, fault, say, tell } from "./page.js";

const image = (index) => `/api/images/${index}.png`;

try {
  const run = await ask("/api/run");
  const { images, buckets, notice } = await ask("/api/images?limit=10000");
  tell(run);
  if (notice) say("notice", [run.data.notice, notice].filter(Boolean).join(" "));
  explore({
    run,
    images,
    buckets,
    image,
    explain: async (p) => ask("/api/explain", await (await fetch(image(p.index))).blob()),
    confusion: { cnn: counted(run, images, "cnn"), vit: counted(run, images, "vit") },
    more: (p) => element("a", { href: `/?image=${p.index}` }, "Try it: hide parts, other methods, other classes"),
    read: () => new URLSearchParams(location.search),
    write: (query) => history.replaceState(null, "", query ? `?${query}` : location.pathname),
    showError: fault,
  });
} catch (error) {
  fault(error);
}

function counted(run, images, name) {
  const place = new Map(run.class_names.map((c, i) => [c, i]));
  const rows = run.class_names.map(() => run.class_names.map(() => 0));
  for (const p of images) rows[place.get(p.true)][place.get(p[name])] += 1;
  return rows;
}
