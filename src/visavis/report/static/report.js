// The explorer in the report, whose data are in the file itself.

const data = JSON.parse(document.getElementById("explorer-data").textContent);

const ORDERS = {
  index: (p) => p.index,
  first_confidence: (p) => -p.first_confidence,
  second_confidence: (p) => -p.second_confidence,
  difference: (p) => -Math.abs(p.first_confidence - p.second_confidence),
  agreement: (p) => -(p.similarity ?? -2),
  disagreement: (p) => p.similarity ?? 2,
};

// As TestImages.matching of the server, which has them all.
function found({ either, sort = "index", first_confidence = 0, second_confidence = 0, similarity = -2, ...equal }) {
  const order = ORDERS[sort];
  const images = data.images.filter((p) => Object.entries(equal).every(([key, value]) => p[key] === value)
    && (!either || p.first === either || p.second === either)
    && p.first_confidence >= first_confidence && p.second_confidence >= second_confidence
    && (p.similarity ?? -2) >= similarity);
  return { total: images.length, images: images.sort((a, b) => order(a) - order(b) || a.index - b.index) };
}

function counted(values) {
  const counts = {};
  for (const value of values) counts[value] = (counts[value] ?? 0) + 1;
  return counts;
}

explore({
  run: data,
  buckets: data.buckets,
  counts: Object.fromEntries(["bucket", "true", "first", "second"].map((key) => [key, counted(data.images.map((p) => p[key]))])),
  image: (index) => document.getElementById(`test-${index}`).src,
  find: async (wanted) => found(wanted),
  explain: async (p) => p,
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
