"use strict";
// Every page works without this script. With it pages refresh themselves, times run, and keys work.
(() => {
  const root = document.documentElement;
  const stored = (key) => { try { return localStorage.getItem(key); } catch { return null; } };
  const store = (key, value) => { try { localStorage.setItem(key, value); } catch { /* storage is off */ } };
  const setTheme = (theme) => { if (theme) root.dataset.theme = theme; else delete root.dataset.theme; };
  setTheme(stored("taskqueue.theme"));
  root.dataset.script = ""; // shows what works with this script only, also in parts that are refreshed

  // As core.humanize writes them: two units where the first is small.
  const units = [["d", 86400], ["h", 3600], ["m", 60], ["s", 1]];
  const relative = (instant) => {
    const passed = (Date.now() - instant) / 1000;
    const size = Math.round(Math.abs(passed));
    if (size < 1) return "now";
    const place = units.findIndex(([, one]) => size >= one);
    const [unit, length] = units[place];
    const [small, smaller] = units[place + 1] ?? ["s", 1];
    const rest = Math.floor(size % length / smaller);
    const text = `${Math.floor(size / length)} ${unit}${rest && length > 1 && size < 10 * length ? ` ${rest} ${small}` : ""}`;
    return passed > 0 ? `${text} ago` : `in ${text}`;
  };
  const showTimes = () => {
    for (const time of document.querySelectorAll("time[datetime]")) time.textContent = relative(new Date(time.dateTime));
  };

  const isMarked = (part) => !getSelection().isCollapsed && getSelection().containsNode(part, true);
  const isBusy = (part) => part.contains(document.activeElement) || isMarked(part) || part.querySelector("details.menu[open], input:checked:not([type=hidden])");
  async function refresh() {
    const active = document.activeElement;
    if (document.hidden || document.querySelector("dialog[open], [data-still]") || (active.matches("input, textarea, select") && active.id !== "poll")) return;
    const stale = document.getElementById("stale");
    try {
      const reply = await fetch(location.href, { headers: { Accept: "text/html" } });
      if (!reply.ok) throw new Error(reply.status);
      const fresh = new DOMParser().parseFromString(await reply.text(), "text/html");
      for (const part of fresh.querySelectorAll("[data-live]")) {
        const shown = document.querySelector(`[data-live="${CSS.escape(part.dataset.live)}"]`);
        if (!shown || shown.outerHTML === part.outerHTML || isBusy(shown)) continue;
        const open = [...shown.querySelectorAll("details")].map((one) => one.open);
        part.querySelectorAll("details").forEach((one, place) => { one.open = open[place] ?? one.open; });
        shown.replaceWith(part);
      }
      document.title = fresh.title;
      stale.textContent = "";
    } catch {
      stale.textContent = "Not refreshed: the server does not answer.";
    }
    showTimes();
  }

  let timer;
  const choices = ["0", "2", "5", "30"];
  const schedule = () => {
    clearInterval(timer);
    const chosen = stored("taskqueue.poll");
    const seconds = choices.includes(chosen) ? Number(chosen) : Number(document.body.dataset.poll);
    if (seconds > 0) timer = setInterval(refresh, Math.max(seconds, 2) * 1000);
  };

  const rows = () => [...document.querySelectorAll("tbody tr")].filter((row) => row.querySelector("a, button, input"));
  const move = (step) => {
    const all = rows();
    const here = all.findIndex((row) => row.contains(document.activeElement));
    const next = all[Math.min(all.length - 1, Math.max(0, here + step))];
    (next?.querySelector("a") ?? next?.querySelector("summary, button, input"))?.focus();
  };
  // How many are selected, where an action on them asks first.
  const tellSelected = () => {
    const count = document.querySelectorAll("input[name=id]:checked").length;
    for (const one of document.querySelectorAll("[data-selected]")) one.textContent = count;
  };

  let afterG = false;
  const keys = {
    "/": () => document.querySelector("input[type=search]")?.focus(),
    r: refresh,
    j: () => move(1),
    k: () => move(-1),
    x: () => document.activeElement.closest("tr")?.querySelector("input[type=checkbox]")?.click(),
    "?": () => document.getElementById("keys").showModal(),
  };
  function press(event) {
    if (event.key === "Escape") {
      for (const menu of document.querySelectorAll("details.menu[open]")) { menu.open = false; menu.querySelector("summary").focus(); }
    }
    if (event.key === "Enter" && event.target.matches("tbody input[type=checkbox]")) {
      event.preventDefault();
      event.target.closest("tr").querySelector("a")?.click();
      return;
    }
    if (event.target.matches("input:not([type=checkbox]), textarea, select") || event.ctrlKey || event.metaKey || event.altKey) return;
    if (afterG) {
      afterG = false;
      document.querySelector(`.top nav a[data-key="${CSS.escape(event.key)}"]`)?.click();
    } else if (event.key === "g") {
      afterG = true;
      setTimeout(() => { afterG = false; }, 1500);
    } else if (keys[event.key]) {
      event.preventDefault();
      keys[event.key]();
    }
  }

  function start() {
    const poll = document.getElementById("poll");
    const theme = document.getElementById("theme");
    const chosen = stored("taskqueue.poll");
    poll.value = choices.includes(chosen) ? chosen : choices.includes(document.body.dataset.poll) ? document.body.dataset.poll : "5";
    theme.value = stored("taskqueue.theme") ?? "";
    poll.addEventListener("change", () => { store("taskqueue.poll", poll.value); schedule(); });
    theme.addEventListener("change", () => { store("taskqueue.theme", theme.value); setTheme(theme.value); });
    document.addEventListener("keydown", press);
    document.addEventListener("click", (event) => {
      for (const menu of document.querySelectorAll("details.menu[open]")) if (!menu.contains(event.target)) menu.open = false;
      const copied = event.target.closest("button[data-copy]");
      if (copied) navigator.clipboard?.writeText(document.getElementById(copied.dataset.copy).textContent).then(() => { copied.textContent = "Copied"; });
    });
    document.addEventListener("change", (event) => {
      if (event.target.id === "all") for (const box of document.querySelectorAll("input[name=id]")) box.checked = event.target.checked;
      tellSelected();
    });
    document.addEventListener("toggle", tellSelected, true);
    document.addEventListener("visibilitychange", () => { if (!document.hidden) refresh(); });
    // What an action has done is said once: a page that is loaded again need not repeat it.
    const url = new URL(location.href);
    if (url.searchParams.has("did")) {
      url.searchParams.delete("did");
      url.searchParams.delete("count");
      history.replaceState(null, "", url);
    }
    showTimes();
    setInterval(showTimes, 5000);
    schedule();
  }
  document.addEventListener("DOMContentLoaded", start);
})();
