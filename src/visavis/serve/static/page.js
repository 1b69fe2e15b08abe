// What the pages that `serve` shows have in common: asking the API, and saying what it says.

import { NAMES } from "./heat.js";

export async function ask(path, body) {
  const options = body ? { method: "POST", body, headers: { "content-type": "image/png" } } : {};
  let answer;
  try {
    answer = await fetch(path, options);
  } catch {
    throw new Error("visavis does not answer; is it still running?");
  }
  for (let tries = 0; answer.status === 503 && tries < 3; tries++) {  // others were first
    await new Promise((done) => setTimeout(done, 1000 * Number(answer.headers.get("retry-after") ?? 1)));
    answer = await fetch(path, options);
  }
  const found = await answer.json().catch(() => ({ error: `visavis answers with status ${answer.status}` }));
  if (!answer.ok) throw Object.assign(new Error(found.error), { status: answer.status });
  return found;
}

export function tell(run) {
  document.getElementById("loading").hidden = true;
  const about = Object.entries(run.models).map(([name, model]) =>
    `${NAMES[name]} ${model.test_accuracy === null ? "not tested" : `${(100 * model.test_accuracy).toFixed(1)} %`}`);
  document.getElementById("about").textContent = `${run.experiment}, test accuracy: ${about.join(", ")}`;
  say("notice", run.data.notice);
}

export function say(id, text) {
  const place = document.getElementById(id);
  place.hidden = !text;
  place.textContent = text ?? "";
}

export function fault(error) {
  document.getElementById("loading").hidden = true;
  say("error", error && (error.message.startsWith("no model")
    ? `${error.message}. For a first look, two minutes long: visavis run --preset smoke --data.source shapes, then visavis serve runs/smoke-shapes`
    : error.message));
}
