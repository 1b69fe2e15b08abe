import { explore } from "./explore.js";
import { element } from "./heat.js";
import { ask, fault, say, tell } from "./page.js";

const image = (index) => `/api/pictures/${index}.png`;

try {
  const run = await ask("/api/run");
  const { pictures, buckets, notice } = await ask("/api/pictures?limit=10000");
  tell(run);
  if (notice) say("notice", [run.data.notice, notice].filter(Boolean).join(" "));
  explore({
    run,
    pictures,
    buckets,
    image,
    explain: async (p) => ask("/api/explain", await (await fetch(image(p.index))).blob()),
    confusion: { cnn: counted(run, pictures, "cnn"), vit: counted(run, pictures, "vit") },
    more: (p) => element("a", { href: `/?picture=${p.index}` }, "Try it: hide parts, other methods, other classes"),
    read: () => new URLSearchParams(location.search),
    write: (query) => history.replaceState(null, "", query ? `?${query}` : location.pathname),
    fault,
  });
} catch (error) {
  fault(error);
}

function counted(run, pictures, name) {
  const place = new Map(run.class_names.map((c, i) => [c, i]));
  const rows = run.class_names.map(() => run.class_names.map(() => 0));
  for (const p of pictures) rows[place.get(p.true)][place.get(p[name])] += 1;
  return rows;
}
