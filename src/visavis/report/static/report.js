// The explorer in the report, whose data are in the file itself.

const data = JSON.parse(document.getElementById("explorer-data").textContent);
const place = new Map(data.images.map((p, i) => [p.index, i]));

function mapOf(name, p) {
  const found = data.maps[name][place.get(p.index)];
  const result = { label: data.labels[name], class: p[name], map: null, degenerate_because: "flat or not finite" };
  if (!found) return result;
  const levels = Array.from(atob(found[0]), (c) => c.charCodeAt(0));
  return { ...result, map: Array.from({ length: 8 }, (_, i) => levels.slice(8 * i, 8 * i + 8)), highest: found[1] };
}

explore({
  run: data,
  images: data.images,
  buckets: data.buckets,
  image: (index) => document.getElementById(`test-${index}`).src,
  explain: async (p) => ({ models: { cnn: mapOf("cnn", p), vit: mapOf("vit", p) } }),
  confusion: data.confusion,
  more: () => "",
  read: () => new URLSearchParams(location.hash.startsWith("#explore?") ? location.hash.slice(9) : ""),
  write: (query) => {
    if (query || location.hash.startsWith("#explore")) history.replaceState(null, "", `#explore${query ? `?${query}` : ""}`);
  },
  showError: (error) => { if (error) throw error; },
});
document.getElementById("explore").classList.add("live");
if (location.hash.startsWith("#explore?")) document.getElementById("explore").scrollIntoView();
