// What a page does beyond HTML and htmx: say whether it is live, let relative times pass, fill presets in.
const root = document.documentElement;
const live = document.getElementById("live");
const stale = document.getElementById("stale");
const out = document.getElementById("signed-out");
let seen = Date.now();
let clientAhead = 0;

root.classList.add("js");
document.querySelectorAll(".menu").forEach((menu) => {
  document.addEventListener("click", (event) => {
    if (!menu.contains(event.target)) menu.open = false;
  });
  menu.addEventListener("keydown", (event) => {
    if (event.key === "Escape") {
      menu.open = false;
      menu.querySelector("summary").focus();
    }
  });
});

function say(standing, text) {
  if (!live || live.textContent === text) return;
  live.dataset.live = standing;
  live.textContent = text;
}

function synchronize() {
  const main = document.getElementById("main");
  seen = Date.now();
  clientAhead = seen - Date.parse(main.dataset.now);
  stale.hidden = true;
  if (out) out.hidden = true;
  say("on", "Live");
}

function lose() {
  document.getElementById("stale-since").textContent = new Date(seen).toLocaleTimeString();
  stale.hidden = false;
  say("away", "Reconnecting");
}

function signOut() {
  out.hidden = false;
  say("away", "Signed out");
}

// htmx would swap an error page in; what is on the screen, or half typed, is worth more.
document.addEventListener("htmx:before:response", (event) => {
  const status = event.detail.ctx.response.status;
  if (status < 400) return;
  if (event.target.id === "main") {
    event.preventDefault();
    if (status === 401) signOut();
    if (status === 404) say("away", "Gone");
    if (status >= 500) lose();
  }
  if (event.target.id === "signals") {
    event.preventDefault();
    setTimeout(() => event.target.dispatchEvent(new Event("again")), 3000);
  }
});
document.addEventListener("htmx:error", (event) => {
  if (event.target.id === "main") lose();
});
document.addEventListener("htmx:after:swap", (event) => {
  if (event.target.id === "main") synchronize();
});
document.addEventListener("htmx:sse:error", () => {
  if (out.hidden) say("away", "Reconnecting");
});
document.addEventListener("htmx:sse:after:connection", () => say("on", "Live"));

// The same words as `away` in words.py.
function took(seconds) {
  const [m, h, d] = [60, 3600, 86400].map((unit) => Math.floor(seconds / unit));
  const two = (large, unit, small, rest) => (small ? `${large} ${unit} ${small} ${rest}` : `${large} ${unit}`);
  if (m === 0) return `${seconds} s`;
  if (h === 0) return two(m, "m", seconds % 60, "s");
  if (d === 0) return two(h, "h", m % 60, "m");
  return two(d, "d", h % 24, "h");
}

function away(at) {
  const seconds = Math.trunc((at - (Date.now() - clientAhead)) / 1000);
  if (seconds === 0) return "now";
  return seconds > 0 ? `in ${took(seconds)}` : `${took(-seconds)} ago`;
}

// What was typed would be lost to the sign-in: ask first whether the session lasts, and take its token.
document.addEventListener("submit", async (event) => {
  const { target: form, submitter } = event;
  if (form.method !== "post" || !form.elements.csrf_token || form.dataset.may === "go") return;
  event.preventDefault();
  if (form.dataset.may === "ask") return;
  form.dataset.may = "ask";
  const answer = await fetch("/account", { redirect: "manual" }).catch(() => null);
  delete form.dataset.may;
  if (answer?.type === "opaqueredirect") {
    signOut();
    return out.scrollIntoView({ block: "center" });
  }
  out.hidden = true;
  const text = answer?.ok ? await answer.text() : "";
  const token = new DOMParser().parseFromString(text, "text/html").querySelector("[name=csrf_token]");
  if (token) form.elements.csrf_token.value = token.value;
  form.dataset.may = "go";
  form.requestSubmit(submitter);
  delete form.dataset.may;
});

setInterval(() => {
  if (document.hidden || !stale.hidden || out?.hidden === false) return;
  document.querySelectorAll("time.away").forEach((time) => {
    time.textContent = away(Date.parse(time.dateTime));
  });
}, 1000);

document.addEventListener("click", (event) => {
  const preset = event.target.closest("[data-cron]");
  if (!preset) return;
  const field = document.getElementById("cron");
  field.value = preset.dataset.cron;
  field.dispatchEvent(new Event("input", { bubbles: true }));
});

synchronize();
say("off", "");
document.getElementById("problems")?.focus();
