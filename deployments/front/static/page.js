// Pages work without this. With it, a page asks for itself again when something has happened, and takes over what
// is different: nothing is drawn here that the server has not drawn. data-own marks what this file itself fills in.

const GAP_MS = 150;
const POLL_MS = 10_000;
const AGAIN_MS = 3_000;

const main = document.querySelector("main");
const here = main.dataset.self;
let skew = main.dataset.now ? Date.parse(main.dataset.now) - Date.now() : 0;

// -- taking over --

function morph(from, to) {
  if (from.nodeType === Node.TEXT_NODE) {
    if (from.data !== to.data) from.data = to.data;
    return;
  }
  if (from.nodeType !== Node.ELEMENT_NODE || from.hasAttribute("data-own") || from.isEqualNode(to)) return;
  for (const { name } of [...from.attributes]) {
    if (!to.hasAttribute(name) && name !== "open") from.removeAttribute(name);
  }
  for (const { name, value } of to.attributes) {
    if (from.getAttribute(name) !== value && name !== "open") from.setAttribute(name, value);
  }
  const kept = new Set([...to.children].map((child) => child.id).filter(Boolean));
  const isKept = (node) => isOwn(node) || kept.has(node.id);
  let at = from.firstChild;
  for (const next of [...to.childNodes]) {
    while (isOwn(at) && at.id !== next.id) at = at.nextSibling;
    let match = next.id ? [...from.children].find((child) => child.id === next.id) : null;
    // What stays is never moved, for it would lose its place: what stands between goes.
    while (at && !isKept(at) && (next.id ? match && at !== match : !isAlike(at, next))) at = without(at);
    if (!next.id && isAlike(at, next)) match = at;
    if (!match) {
      from.insertBefore(document.importNode(next, true), at);
      continue;
    }
    if (match === at) at = at.nextSibling;
    else from.insertBefore(match, at);
    morph(match, next);
  }
  while (at) at = isOwn(at) ? at.nextSibling : without(at);
}

function without(node) {
  const after = node.nextSibling;
  node.remove();
  return after;
}

function isOwn(node) {
  return node?.nodeType === Node.ELEMENT_NODE && node.hasAttribute("data-own");
}

function isAlike(one, other) {
  return one && one.nodeName === other.nodeName && !one.id;
}

function show(html) {
  const fresh = new DOMParser().parseFromString(html, "text/html");
  const next = fresh.querySelector("main");
  if (!next) return null;
  const focused = document.activeElement;
  const read = [...document.querySelectorAll(".log, #screen")].filter(isAtEnd);
  if (next.dataset.now) skew = Date.parse(next.dataset.now) - Date.now();
  localise(next);
  for (const name of ["data-self", "data-events", "data-now"]) next.removeAttribute(name);
  for (const name of ["data-self", "data-events", "data-now"]) {
    if (main.hasAttribute(name)) next.setAttribute(name, main.getAttribute(name));
  }
  morph(main, next);
  document.title = fresh.title;
  for (const end of read) end.scrollTop = end.scrollHeight;
  if (focused && focused !== document.body && !focused.isConnected) main.focus({ preventScroll: true });
  return fresh;
}

function isAtEnd(box) {
  return box.scrollHeight - box.scrollTop - box.clientHeight < 40;
}

let busy = false;
let again = false;

let later = null;

function refreshLater() {
  clearTimeout(later);
  later = setTimeout(refresh, AGAIN_MS);
}

async function refresh() {
  if (busy) {
    again = true;
    return;
  }
  busy = true;
  again = false;
  try {
    const answer = await fetch(here ?? location.href, { cache: "no-store" });
    if (answer.ok) show(await answer.text());
    else if (answer.status === 429 || answer.status >= 500) refreshLater();
  } catch {
    refreshLater();
  }
  await new Promise((done) => setTimeout(done, GAP_MS));
  busy = false;
  if (again) refresh();
}

// -- hearing --

let stream = null;
let polling = null;
let place = null;

function listen() {
  if (!main.dataset.events || stream || document.hidden) return;
  const address = new URL(main.dataset.events, location.href);
  if (place) address.searchParams.set("after", place);
  stream = new EventSource(address);
  stream.addEventListener("news", (event) => {
    place = event.lastEventId;
    refresh();
  });
  stream.addEventListener("gap", refresh);
  stream.addEventListener("screen", (event) => {
    const pane = document.getElementById("screen");
    const follows = isAtEnd(pane);
    pane.textContent = JSON.parse(event.data).output;
    pane.closest("section").hidden = !pane.textContent;
    if (follows) pane.scrollTop = pane.scrollHeight;
  });
  stream.addEventListener("error", () => {
    if (stream?.readyState === EventSource.CLOSED) {
      stream = null;
      poll(POLL_MS);
    }
  });
}

function poll(every) {
  clearInterval(polling);
  polling = setInterval(() => document.hidden || refresh(), every);
}

document.addEventListener("visibilitychange", () => {
  if (document.hidden) {
    stream?.close();
    stream = null;
    return;
  }
  if (main.dataset.events || main.dataset.poll) refresh();
  listen();
});

// -- saying --

document.addEventListener("submit", (event) => {
  const form = event.target;
  if (form.method !== "post") return;
  if (form.dataset.sent) {
    event.preventDefault();
    return;
  }
  form.dataset.sent = "yes";
  setTimeout(() => delete form.dataset.sent, 5000);
  if (!form.hasAttribute("data-live")) return;
  event.preventDefault();
  send(form, event.submitter);
});

async function send(form, pressed) {
  const told = form.querySelector(".told");
  told.textContent = "";
  const words = () => [...form.elements].map((field) => field.value).join("\n");
  const said = words();
  try {
    const answer = await fetch(form.action, { method: "POST", body: new URLSearchParams(new FormData(form, pressed)) });
    const html = await answer.text();
    if (answer.ok) {
      if (words() === said) form.reset(); // else the next words are being typed
      if (form.dataset.into) take(form.dataset.into, html);
      else show(html);
    } else {
      const page = new DOMParser().parseFromString(html, "text/html");
      told.textContent = page.querySelector(".problem-words")?.textContent ?? "It did not work; send it again.";
    }
  } catch {
    told.textContent = "There is no connection; send it again.";
  }
  delete form.dataset.sent;
}

function take(id, html) {
  const found = new DOMParser().parseFromString(html, "text/html").getElementById(id);
  if (found) document.getElementById(id).replaceWith(document.importNode(found, true));
  ready();
  document.querySelector(`#${id} input`)?.select();
}

// -- small things --

function localise(root) {
  for (const time of root.querySelectorAll("time[datetime]")) {
    const style = time.hasAttribute("data-short") ? { timeStyle: "short" } : { dateStyle: "medium", timeStyle: "short" };
    time.textContent = new Intl.DateTimeFormat(undefined, style).format(new Date(time.getAttribute("datetime")));
  }
}

function tick() {
  for (const since of document.querySelectorAll("[data-since]")) {
    const seconds = Math.max(0, Math.floor((Date.now() + skew - Date.parse(since.dataset.since)) / 1000));
    const minutes = Math.floor(seconds / 60);
    since.textContent =
      minutes >= 60 ? `${Math.floor(minutes / 60)} h ${minutes % 60} min`
      : minutes ? `${minutes} min ${seconds % 60} s`
      : seconds ? `${seconds} s` : "under 1 s";
  }
}

function ready() {
  for (const button of document.querySelectorAll("[data-copy]")) button.hidden = false;
}

document.addEventListener("click", async (event) => {
  const example = event.target.closest("[data-fill]");
  if (example) {
    event.preventDefault();
    const field = document.getElementById(example.dataset.fill);
    field.value = example.dataset.requirements;
    document.getElementById(example.dataset.choose).checked = true;
    field.focus();
  }
  const copy = event.target.closest("[data-copy]");
  if (copy) {
    const field = document.getElementById(copy.dataset.copy);
    field.select();
    await navigator.clipboard?.writeText(field.value);
    copy.textContent = "Copied";
  }
});

localise(main);
ready();
listen();
setInterval(tick, 1000);
if (main.dataset.poll) poll(1000 * main.dataset.poll);
document.getElementById("problems")?.focus();
for (const box of document.querySelectorAll(".log, #screen")) box.scrollTop = box.scrollHeight;
