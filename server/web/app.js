// The coordinator's page: #/ has jobs, queue and workers, #/job/ID one job. Read-only; asks the
// coordinator every two seconds while it is visible.
"use strict";
const {element, number} = plots;
const main = document.getElementById("main");
const trouble = document.getElementById("trouble");
const kInterval = 2000;
const kPoints = 400;

async function get(path, query) {
  const search = new URLSearchParams(query ?? {}).toString();
  const answer = await fetch(`api/${path}${search && "?" + search}`, {cache: "no-store"});
  const body = await answer.json();
  if (!answer.ok) {
    throw Object.assign(new Error(body.message ?? `status ${answer.status}`),
        {isFinal: answer.status === 404});
  }
  return body;
}

const state = (job) => (job.state ?? "").replace("JOB_STATE_", "").toLowerCase();
const words = (name, prefix) => (name ?? "").replace(prefix, "").toLowerCase().replaceAll("_", " ");
const tones = {succeeded: "good", failed: "bad", cancelled: "warn", paused: "warn"};

function duration(seconds) {
  if (!Number.isFinite(seconds)) return "-";
  if (seconds < 60) return `${Math.round(seconds)} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min`;
  return `${Math.floor(seconds / 3600)} h ${Math.floor(seconds % 3600 / 60)} min`;
}
const bytes = (count) => `${(Number(count ?? 0) / 2 ** 30).toFixed(1)} GiB`;
const ago = (time) => time ? `${duration((Date.now() - Date.parse(time)) / 1000)} ago` : "-";
const clock = (time) => time ? `${time.slice(0, 10)} ${time.slice(11, 19)}Z` : "-";
const eta = (job) => duration(parseFloat(job.progress?.eta));

// A table of columns {title, cell: (row) => text or element, kind}. On a phone each row is a card: `name` is its
// head, `whole` has a line to itself, `number` and `titled` have their title beside them; what is
// not known is left out.
function table(rows, columns, empty) {
  if (rows.length === 0) return element("p", empty, {class: "faint"});
  const made = element("table", null, {class: "cards"});
  const top = element("tr");
  for (const {title, kind} of columns) top.append(element("th", title, {class: kind ?? ""}));
  made.append(top);
  for (const row of rows) {
    const line = element("tr");
    for (const {title, cell, kind} of columns) {
      const value = cell(row);
      const place = element("td", null,
          {class: `${kind ?? ""}${value === "-" ? " unknown" : ""}`, "data-title": title});
      place.append(value instanceof Node ? value : String(value));
      line.append(place);
    }
    made.append(line);
  }
  const scroll = element("div", null, {class: "scroll"});
  scroll.append(made);
  return scroll;
}

const link = (job) => element("a", job.job_id, {href: `#/job/${encodeURIComponent(job.job_id)}`});
// The JSON leaves out what is 0, which before the first step means "nothing yet".
const measured = (job, name) => Number(job.progress?.step ?? 0) === 0 ? "-" :
    number(job.progress[name] ?? 0);
const badge = (job) => element("span", state(job), {class: tones[state(job)] ?? ""});

function progress(job) {
  const step = Number(job.progress?.step ?? 0);
  const total = Number(job.progress?.steps_total ?? job.spec?.train?.steps ?? 0);
  const place = element("span");
  place.append(element("progress", null, {max: total || 1, value: step,
    "aria-label": `${step} of ${total} steps`}), ` ${step}/${total}`);
  return place;
}

function headed(title, ...content) {
  const section = element("section");
  section.append(element("h2", title), ...content);
  return section;
}

const pagesMax = 5;  // of 1,000 jobs; a page that is left open asks for them again and again
const rowsMax = 200;

// Newest first.
async function newestJobs() {
  const all = [];
  let token = "";
  for (let page = 0; page === 0 || (token && page < pagesMax); page++) {
    const answer = await get("jobs", {page_size: 1000, page_token: token});
    all.push(...answer.jobs ?? []);
    token = answer.next_page_token;
  }
  return all;
}

const counted = (title, shown, all) =>
  shown.length === all.length ? title : `${title}: ${shown.length} of ${all.length}`;

async function showFleet() {
  const [all, {workers = []}] = await Promise.all([newestJobs(), get("workers")]);
  document.getElementById("where").textContent = "";
  const waiting = all.filter((job) => ["queued", "starting"].includes(state(job))).reverse();
  const queued = waiting.slice(0, rowsMax);
  const jobs = all.filter((job, index) => index < rowsMax || state(job) === "running");
  main.replaceChildren(
      headed(counted("Jobs", jobs, all), table(jobs, [
        {title: "Job", cell: link, kind: "name"},
        {title: "State", cell: badge},
        {title: "Progress", cell: progress},
        {title: "Loss", cell: (job) => measured(job, "loss"), kind: "number"},
        {title: "Imbalance", cell: (job) => measured(job, "imbalance"), kind: "number"},
        {title: "Tokens/s", kind: "number",
          cell: (job) => Math.round(job.progress?.tokens_per_second ?? 0) || "-"},
        {title: "ETA", cell: (job) => state(job) === "running" ? eta(job) : "-",
          kind: "number"},
      ], "No job yet; submit one with `sinkforge submit JOB.yaml`.")),
      headed(counted("Queue", queued, waiting), table(queued, [
        {title: "Job", cell: link, kind: "name"},
        {title: "Waits for", cell: (job) => words(job.reason, "REASON_")},
        {title: "Why", cell: (job) => job.message ?? "", kind: "whole"},
        {title: "Submitted", cell: (job) => ago(job.create_time), kind: "titled"},
      ], "Nothing waits.")),
      headed("Workers", table(workers, [
        {title: "Worker", cell: (worker) => worker.worker, kind: "name"},
        {title: "State", cell: (worker) => words(worker.state, "WORKER_STATE_")},
        {title: "Slots in use", kind: "number",
          cell: (worker) => `${(worker.used ?? []).length}/${(worker.slots ?? []).length}`},
        {title: "Runs", kind: "titled",
          cell: (worker) => (worker.used ?? []).map((use) => use.job_id).join(", ")},
        {title: "Free disk", cell: (worker) => bytes(worker.disk_free_bytes), kind: "number"},
        {title: "Last seen", cell: (worker) => ago(worker.last_seen), kind: "titled"},
        {title: "Processor", cell: (worker) => worker.processor ?? "", kind: "titled"},
      ], "No worker is known; start one with `sinkforge-worker`.")));
}

// Built once for a job, then filled again at each poll, so that the reader's scroll position, and
// what is pointed at, stay.
class JobView {
  constructor(id) {
    this.id = id;
    this.summary = element("div");
    this.events = element("div");
    this.heat = element("div");
    this.heatTitle = element("h3", "Importance of every head");
    this.canvases = {};
    const panels = element("div", null, {class: "panels"});
    for (const [name, title] of [["loss", "Loss, nats per token"], ["imbalance", "Imbalance"],
                                 ["rate", "Tokens per second"]]) {
      this.canvases[name] = element("canvas");
      const plot = element("div", null, {class: "plot"});
      plot.append(this.canvases[name]);
      const panel = element("div", null, {class: "panel"});
      panel.append(element("h3", title), plot);
      panels.append(panel);
    }
    const heat = element("div", null, {class: "panel"});
    heat.append(this.heatTitle, this.heat);
    panels.append(heat);
    main.replaceChildren(this.summary, panels, headed("Events", this.events));
  }

  close() {
    Object.values(this.canvases).forEach(plots.forget);
  }

  async refresh() {
    const path = `jobs/${encodeURIComponent(this.id)}`;
    const [job, history, {events = []}] = await Promise.all([
      get(path),
      get(`${path}/metrics`, {max_points: kPoints, series:
          "loss,validation_loss,imbalance,tokens_per_second"}),
      get(`${path}/events`)]);
    document.getElementById("where").textContent = `/ ${this.id}`;
    this.showSummary(job);
    this.showCurves(history);
    await this.showHeads(path, Number(job.progress?.step ?? 0));
    this.events.replaceChildren(table(events.slice(-50).reverse(), [
      {title: "Time", cell: (event) => clock(event.time)},
      {title: "Event", cell: (event) => words(event.kind, "EVENT_KIND_")},
      {title: "Step", cell: (event) => Number(event.step ?? 0) || "", kind: "number"},
      {title: "", cell: (event) => event.message ?? "", kind: "whole"},
    ], "None yet."));
  }

  showSummary(job) {
    const list = element("dl");
    const add = (name, value) => {
      const place = element("dd");
      place.append(value);
      list.append(element("dt", name), place);
    };
    add("state", badge(job));
    if (job.message) add("why", job.message);
    add("progress", progress(job));
    if (state(job) === "running") add("ETA", eta(job));
    add("model", `${words(job.spec?.model?.attention, "ATTENTION_VARIANT_")}, ` +
        `${job.spec?.model?.layers} layers of ${job.spec?.model?.heads} heads, ` +
        `${Number(job.parameters ?? 0).toLocaleString("en")} parameters`);
    const balance = job.spec?.head_balance ?? {};
    add("head balance", `${words(balance.loss, "BALANCE_LOSS_")}, ` +
        `coefficient ${balance.coefficient ?? 0}`);
    if (Number(job.progress?.validation_step ?? 0) > 0) {
      add("validation", `${number(job.progress.validation_bits_per_byte)} bits per byte ` +
          `(step ${job.progress.validation_step})`);
    }
    add("checkpoints", (job.checkpoints ?? []).map((one) => one.step).join(", ") || "none yet");
    this.summary.replaceChildren(list);
  }

  showCurves(history) {
    const series = Object.fromEntries((history.series ?? []).map((one) => [
      one.name,
      (one.points ?? []).map((point) => ({x: Number(point.step), y: Number(point.value ?? 0)}))
          .filter((point) => Number.isFinite(point.y))]));
    const of = (name) => series[name] ?? [];
    const raw = of("imbalance");
    plots.curves(this.canvases.loss, {x: "step", y: "nats per token", curves: [
      {label: "training", points: of("loss")},
      {label: "validation", points: of("validation_loss")}]});
    plots.curves(this.canvases.imbalance, {x: "step", y: "imbalance", low: 0, curves: [
      {label: "each step", points: raw, faint: true, colour: 0},
      {label: "smoothed", points: plots.smoothed(raw, 20), colour: 0}]});
    plots.curves(this.canvases.rate, {x: "step", y: "tokens/s", low: 0, curves: [
      {label: "tokens/s", points: of("tokens_per_second"), colour: 2}]});
  }

  async showHeads(path, step) {
    if (step === 0) return;
    const {series = []} = await get(`${path}/metrics`,
        {series: "importance", first_step: step, max_points: 1});
    const rows = [];
    for (const {name, points = []} of series) {
      const [, layer, head] = name.split("/").map(Number);
      (rows[layer] ??= [])[head] = points.length === 0 ? NaN : Number(points.at(-1).value ?? 0);
    }
    this.heatTitle.textContent = `Importance of every head, step ${step}`;
    plots.heatmap(this.heat, rows, this.heatTitle.textContent);
  }
}

let view = null;  // of the job that is shown

async function show() {
  const id = location.hash.startsWith("#/job/") ? decodeURIComponent(location.hash.slice(6)) : null;
  if (view !== null && view.id !== id) {
    view.close();
    view = null;
  }
  if (id === null) return showFleet();
  view ??= new JobView(id);
  return view.refresh();
}

// What is asked for is not there, and will not come.
function giveUp(error) {
  view?.close();
  view = null;
  trouble.textContent = error.message;
  trouble.hidden = false;
  main.replaceChildren(element("a", "All jobs", {href: "#/"}));
}

let turn = 0;  // a newer one makes those before it stop

async function run() {
  const own = ++turn;
  while (own === turn) {
    try {
      if (!document.hidden) await show();
      trouble.hidden = true;
    } catch (error) {
      if (own !== turn) return;
      if (error.isFinal) return giveUp(error);
      trouble.textContent = `${error.message}; trying again`;
      trouble.hidden = false;
    }
    await new Promise((resolve) => setTimeout(resolve, kInterval));
  }
}

addEventListener("hashchange", run);
document.addEventListener("visibilitychange", run);
run();
