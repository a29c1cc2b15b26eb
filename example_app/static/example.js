"use strict";
// Without this script the page works all the same; with it the counts move by themselves.
const main = document.querySelector("main");
const rows = document.getElementById("tasks");

function cell(text, name) {
  const td = document.createElement("td");
  td.textContent = text;
  if (name) td.className = name;
  return td;
}

function show(state) {
  for (const [key, count] of Object.entries(state.counters)) {
    document.getElementById(`count-${key}`).textContent = count;
  }
  if (!state.tasks.length) return;
  rows.replaceChildren(...state.tasks.map((task) => {
    const tr = document.createElement("tr");
    const id = document.createElement("code");
    id.textContent = task.id;
    const first = document.createElement("td");
    first.append(id);
    tr.append(first, cell(task.url), cell(task.state, task.state), cell(task.attempts));
    return tr;
  }));
}

async function refresh() {
  try {
    const reply = await fetch(main.dataset.state);
    if (reply.ok) show(await reply.json());
  } catch {
    // The server is restarting; the next refresh will find it.
  }
  setTimeout(refresh, 300);
}

document.querySelector("form").addEventListener("submit", async (event) => {
  event.preventDefault();
  const body = new URLSearchParams({ key: event.submitter.value });
  await fetch("", { method: "POST", body, redirect: "manual" });
});

refresh();
