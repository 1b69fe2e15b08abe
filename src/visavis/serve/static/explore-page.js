import { explore } from "./explore.js";
import { element } from "./heat.js";
import { choice, chosen, request, showError, showRun, showText } from "./page.js";

const image = (index) => chosen(`/api/images/${index}.png`);

try {
  const run = await request("/api/run");
  const { counts, confusion, buckets, notice } = await request("/api/images/counts");
  showRun(run);
  run.labels = Object.fromEntries(Object.entries(run.models).map(([role, { label }]) => [role, label]));
  if (notice) showText("notice", [run.data.notice, notice].filter(Boolean).join(" "));
  explore({
    run,
    counts,
    confusion,
    buckets,
    image,
    find: async (wanted, offset) => request(`/api/images?${new URLSearchParams({ ...wanted, offset, limit: 300 })}`),
    explain: async (p) => request("/api/explain", await (await fetch(image(p.index))).blob()),
    more: (p) => element("a", { href: chosen(`/?image=${p.index}`) }, "Open it to hide parts and try other methods and target classes"),
    read: () => new URLSearchParams(location.search),
    write: (query) => {
      const whole = [choice, query].filter(Boolean).join("&");
      history.replaceState(null, "", whole ? `?${whole}` : location.pathname);
    },
    showError,
  });
} catch (error) {
  showError(error);
}
