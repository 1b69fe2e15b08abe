// Shared by both pages: requests to the API, facts about the experiment, and error messages.

// Which trainings of a study are shown; empty for an experiment.
export const choice = document.body.dataset.choice;
export const chosen = (path) => path + (choice && (path.includes("?") ? "&" : "?") + choice);

document.getElementById("trainings")?.addEventListener("change", ({ currentTarget }) => currentTarget.submit());

export async function request(path, body) {
  const options = body ? { method: "POST", body, headers: { "content-type": "image/png" } } : {};
  let response;
  for (let tries = 0; tries < 4; tries++) {
    response = await fetch(chosen(path), options).catch(() => { throw new Error("visavis does not respond; is it still running?"); });
    if (response.status !== 503) break;  // else the server is busy
    await new Promise((done) => setTimeout(done, 1000 * Number(response.headers.get("retry-after") ?? 1)));
  }
  const found = await response.json().catch(() => ({ error: `visavis responded with status ${response.status}` }));
  if (!response.ok) throw Object.assign(new Error(found.error), { status: response.status });
  return found;
}

export function showRun(run) {
  document.getElementById("loading").hidden = true;
  const accuracies = Object.values(run.models).map((model) =>
    `${model.label} ${model.test_accuracy === null ? "not tested" : `${(100 * model.test_accuracy).toFixed(1)} %`}`);
  document.getElementById("about").textContent = `${run.experiment}, test accuracy: ${accuracies.join(", ")}`;
  showText("notice", run.data.notice);
}

export function showText(id, text) {
  const place = document.getElementById(id);
  place.hidden = !text;
  place.textContent = text ?? "";
}

export function showError(error) {
  document.getElementById("loading").hidden = true;
  showText("error", error && (error.message.startsWith("no model")
    ? `${error.message}. For a first look, in two minutes: visavis run --preset smoke --data.source shapes, then visavis serve runs/smoke-shapes`
    : error.message));
}
