import { explore } from "./explore.js";
import { element } from "./heat.js";
import { request, showError, showRun, showText } from "./page.js";

const image = (index) => `/api/images/${index}.png`;

try {
  const run = await request("/api/run");
  const { images, buckets, notice } = await request("/api/images?limit=10000");
  showRun(run);
  run.labels = Object.fromEntries(Object.entries(run.models).map(([role, { label }]) => [role, label]));
  if (notice) showText("notice", [run.data.notice, notice].filter(Boolean).join(" "));
  explore({
    run,
    images,
    buckets,
    image,
    explain: async (p) => request("/api/explain", await (await fetch(image(p.index))).blob()),
    confusion: { first: confusion(run, images, "first"), second: confusion(run, images, "second") },
    more: (p) => element("a", { href: `/?image=${p.index}` }, "Open it to hide parts and try other methods and target classes"),
    read: () => new URLSearchParams(location.search),
    write: (query) => history.replaceState(null, "", query ? `?${query}` : location.pathname),
    showError,
  });
} catch (error) {
  showError(error);
}

function confusion(run, images, role) {
  const place = new Map(run.class_names.map((c, i) => [c, i]));
  const counts = run.class_names.map(() => run.class_names.map(() => 0));
  for (const p of images) counts[place.get(p.true)][place.get(p[role])] += 1;
  return counts;
}
