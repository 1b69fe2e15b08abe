// The explorer in the report, whose data are in the file itself.

const data = JSON.parse(document.getElementById("explorer-data").textContent);

explore({
  run: data,
  images: data.images,
  buckets: data.buckets,
  image: (index) => document.getElementById(`test-${index}`).src,
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
