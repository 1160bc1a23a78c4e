// The page: takes a picture from anywhere, asks the gateway beside it, shows the answer, sends feedback.

const at = (id) => document.getElementById(id);
const maxBytes = Number(document.body.dataset.maxBytes);
const percent = new Intl.NumberFormat("en", { style: "percent", maximumFractionDigits: 1 });
const keepsPictures = JSON.parse(document.body.dataset.keepsPictures);
const KEY = "slipway-key";

let picture = null;
let answer = null;
let labels = null;
let asking = null;
let stream = null;

class Refused extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

async function call(path, options = {}) {
  const headers = new Headers(options.headers);
  const key = sessionStorage.getItem(KEY);
  if (key) headers.set("X-API-Key", key);
  let response;
  try {
    response = await fetch(path, { ...options, headers });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refused(0, "The gateway cannot be reached. Check the connection and try again.");
  }
  const body = await response.json().catch(() => null);
  if (!response.ok) throw new Refused(response.status, body?.error?.message ?? `The gateway answered ${response.status}.`);
  return body;
}

function show(id, visible) {
  at(id).hidden = !visible;
}

function complain(error) {
  const refused = sessionStorage.getItem(KEY) ? "This API key is wrong, expired or revoked." : "This page needs an API key.";
  at("problem").textContent = error.status === 401 ? refused : sentence(error.message);
  show("problem", true);
  show("key-form", error.status === 401);
}

function sentence(text) {
  const whole = text.charAt(0).toUpperCase() + text.slice(1);
  return /[.!?]$/.test(whole) ? whole : `${whole}.`;
}

async function learnModel() {
  try {
    const model = await call("model");
    labels = model.labels;
    at("served").textContent = `${model.name}, version ${model.version}`;
    show("served", true);
    return model;
  } catch (error) {
    if (error.status === 401) complain(error);
    return null;
  }
}

function take(file) {
  if (!file) return;
  if (!file.type.startsWith("image/")) {
    complain(new Refused(0, `${file.name || "This"} is no picture.`));
    return;
  }
  if (file.size > maxBytes) {
    complain(new Refused(0, `This picture has ${(file.size / 1048576).toFixed(1)} MiB; at most ${(maxBytes / 1048576).toFixed(0)} are accepted.`));
    return;
  }
  if (picture) URL.revokeObjectURL(at("picture").src);
  picture = file;
  at("picture").src = URL.createObjectURL(file);
  show("preview", true);
  show("invite", false);
  at("drop").classList.add("has-picture");
  ask();
}

async function ask() {
  asking?.abort();
  const mine = new AbortController();
  asking = mine;
  answer = null;
  for (const id of ["problem", "key-form", "empty", "answer", "overlay", "strength", "why-not", "thanks"]) show(id, false);
  show("working", true);
  at("drop").setAttribute("aria-busy", "true");
  try {
    const explain = at("explain").checked ? "?explain=true" : "";
    const found = await call(`predict${explain}`, { method: "POST", body: picture, signal: mine.signal });
    if (asking !== mine) return;
    answer = found;
    showAnswer();
  } catch (error) {
    if (error.name === "AbortError" || asking !== mine) return;
    complain(error);
  } finally {
    if (asking === mine) {
      show("working", false);
      at("drop").removeAttribute("aria-busy");
    }
  }
}

function showAnswer() {
  at("verdict").textContent = answer.sure ? answer.label : "Not sure";
  at("confidence").textContent = answer.sure ? percent.format(answer.confidence) : "";
  at("unsure").textContent = `Most likely “${answer.label}”, but only ${percent.format(answer.confidence)} probable; an answer needs ${percent.format(answer.threshold)}.`;
  show("unsure", !answer.sure);
  at("bars").replaceChildren(...answer.top.map(bar));
  const variant = answer.model.variant === "latest" ? "" : ` (${answer.model.variant})`;
  at("version").textContent = `${answer.model.version}${variant}`;
  at("served").textContent = `${answer.model.name}, version ${answer.model.version}`;
  show("served", true);
  at("time").textContent = `${Math.round(answer.milliseconds)} ms`;
  at("request").textContent = at("request").title = answer.request_id;
  show("feedback", Boolean(answer.receipt));
  at("feedback-title").textContent = answer.sure ? "Is this right?" : `Is “${answer.label}” right?`;
  show("verdicts", true);
  show("correct", false);
  show("answer", true);
  showExplanation(answer.explanation);
  at("status").textContent = answer.sure ? `${answer.label}, ${percent.format(answer.confidence)}` : at("unsure").textContent;
}

function bar(candidate) {
  const row = document.createElement("li");
  const names = document.createElement("div");
  names.className = "names";
  const name = document.createElement("span");
  name.className = "name";
  name.textContent = candidate.label;
  const value = document.createElement("span");
  value.className = "value";
  value.textContent = percent.format(candidate.probability);
  names.append(name, value);
  const track = document.createElement("div");
  track.className = "bar";
  track.setAttribute("aria-hidden", "true");
  const fill = document.createElement("div");
  fill.className = "fill";
  fill.style.setProperty("--share", `${Math.min(1, Math.max(0, candidate.probability)) * 100}%`);
  track.append(fill);
  row.append(names, track);
  return row;
}

function showExplanation(explanation) {
  const available = Boolean(explanation?.available);
  if (available) at("overlay").src = explanation.overlay;
  show("overlay", available);
  show("strength", available);
  at("why-not").textContent = explanation && !available ? sentence(explanation.reason) : "";
  show("why-not", Boolean(explanation) && !available);
}

async function judge(verdict, label) {
  const form = new FormData();
  form.set("receipt", answer.receipt);
  form.set("verdict", verdict);
  if (label) form.set("label", label);
  if (keepsPictures) form.set("image", picture);
  const buttons = at("feedback").querySelectorAll("button");
  for (const button of buttons) button.disabled = true;
  try {
    await call("feedback", { method: "POST", body: form });
    show("problem", false);
    show("feedback", false);
    show("thanks", true);
    at("status").textContent = at("thanks").textContent;
  } catch (error) {
    complain(error);
  } finally {
    for (const button of buttons) button.disabled = false;
  }
}

async function offerLabels() {
  if (!labels) await learnModel();
  const others = (labels ?? []).filter((label) => label !== answer.label);
  const unknown = new Option("None of these, or I do not know", "");
  at("label").replaceChildren(...others.map((label) => new Option(label, label)), unknown);
  at("feedback-title").textContent = "What is it?";
  show("verdicts", false);
  show("correct", true);
  at("label").focus();
}

async function openCamera() {
  if (!navigator.mediaDevices?.getUserMedia) {
    at("capture").click();
    return;
  }
  try {
    stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" }, audio: false });
  } catch {
    // No camera, or the person said no; a phone's own camera program may still do.
    at("capture").click();
    return;
  }
  at("video").srcObject = stream;
  at("viewfinder").showModal();
  await at("video").play();
}

function closeCamera() {
  for (const track of stream?.getTracks() ?? []) track.stop();
  stream = null;
  at("video").srcObject = null;
  if (at("viewfinder").open) at("viewfinder").close();
}

function shoot() {
  const video = at("video");
  const canvas = document.createElement("canvas");
  canvas.width = video.videoWidth;
  canvas.height = video.videoHeight;
  canvas.getContext("2d").drawImage(video, 0, 0);
  canvas.toBlob((blob) => {
    closeCamera();
    take(blob && new File([blob], "camera.jpg", { type: "image/jpeg" }));
  }, "image/jpeg", 0.92);
}

function firstPicture(transfer) {
  return [...(transfer?.files ?? [])][0];
}

const drop = at("drop");
for (const name of ["dragenter", "dragover"]) {
  document.addEventListener(name, (event) => {
    event.preventDefault();
    drop.classList.add("over");
  });
}
document.addEventListener("dragleave", (event) => {
  if (!event.relatedTarget) drop.classList.remove("over");
});
document.addEventListener("drop", (event) => {
  event.preventDefault();
  drop.classList.remove("over");
  take(firstPicture(event.dataTransfer));
});
document.addEventListener("paste", (event) => take(firstPicture(event.clipboardData)));

for (const id of ["file", "capture"]) {
  at(id).addEventListener("change", (event) => {
    take(event.target.files[0]);
    event.target.value = "";
  });
}
at("picture").addEventListener("load", (event) => {
  event.target.classList.toggle("small", event.target.naturalWidth < 128);
});
at("camera").addEventListener("click", openCamera);
at("shoot").addEventListener("click", shoot);
at("cancel").addEventListener("click", closeCamera);
at("viewfinder").addEventListener("close", closeCamera);
at("explain").addEventListener("change", () => picture && ask());
at("opacity").addEventListener("input", (event) => at("overlay").style.setProperty("opacity", event.target.value / 100));
at("overlay").style.setProperty("opacity", at("opacity").value / 100);
at("right").addEventListener("click", () => judge("right"));
at("wrong").addEventListener("click", offerLabels);
at("correct").addEventListener("submit", (event) => {
  event.preventDefault();
  judge("wrong", at("label").value);
});
at("key-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  sessionStorage.setItem(KEY, at("key").value.trim());
  show("problem", false);
  show("key-form", false);
  await learnModel();
  if (picture) ask();
});

learnModel();
