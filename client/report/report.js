// Draws the report from the data in its page: the comparison, the paper's figures, each job's file
// and environment.
"use strict";
const {element, number} = plots;
const text = document.getElementById("data").textContent;
const {generated, version, jobs} = JSON.parse(text);
const main = document.getElementById("main");
document.title = `SinkForge report: ${jobs.map((job) => job.job_id).join(", ")}`;
document.getElementById("about").textContent =
    `${jobs.length} ${jobs.length === 1 ? "job" : "jobs"}; made ${generated} by SinkForge ${version}`;

const points = (job, name) => (job.series[name] ?? [])
    .filter(([, value]) => value !== null).map(([x, y]) => ({x, y}));

function section(title, ...content) {
  const made = element("section");
  made.append(element("h2", title), ...content);
  main.append(made);
  return made;
}

// A panel with a canvas in `place`; drawn once it is in the page, where it has a size.
function figure(place, title, kind, settings) {
  const panel = element("div", null, {class: "panel"});
  const plot = element("div", null, {class: "plot"});
  const canvas = element("canvas");
  plot.append(canvas);
  panel.append(element("h3", title), plot);
  place.append(panel);
  plots[kind](canvas, settings);
}

function panels(place) {
  const made = element("div", null, {class: "panels"});
  place.append(made);
  return made;
}

function comparison() {
  const columns = [
    ["Job", (job) => job.job_id, "name"], ["State", (job) => job.state, "titled"],
    ["Attention", (job) => job.attention, "titled"],
    ["MLP", (job) => job.mlp.replace("_", " "), "titled"],
    ["Head balance", (job) => job.head_balance === "none" ? "none" :
        `${job.head_balance}, ${job.coefficient}`, "titled"],
    ["Seed", (job) => job.seed, "number"],
    ["Parameters", (job) => job.parameters.toLocaleString("en"), "number"],
    ["Steps", (job) => `${job.step}/${job.steps}`, "number"],
    ["Loss", (job) => number(job.summary.loss), "number"],
    ["Bits per byte", (job) => number(job.summary.validation_bits_per_byte), "number"],
    ["Imbalance", (job) => number(job.summary.imbalance), "number"],
    ["Least importance", (job) => number(job.summary.importance_min), "number"],
    ["Greatest importance", (job) => number(job.summary.importance_max), "number"],
    ["Tokens/s", (job) => job.summary.tokens_per_second === null ? "-" :
        Math.round(job.summary.tokens_per_second).toLocaleString("en"), "number"],
  ];
  const table = element("table", null, {class: "cards compare"});
  const top = element("tr");
  for (const [title, , kind] of columns) top.append(element("th", title, {class: kind}));
  table.append(top);
  for (const job of jobs) {
    const row = element("tr");
    for (const [title, cell, kind] of columns) {
      row.append(element("td", cell(job), {class: kind, "data-title": title}));
    }
    table.append(row);
  }
  const scroll = element("div", null, {class: "scroll", tabindex: "0"});
  scroll.append(table);
  section("Comparison", scroll, element("p", "Bits per byte are of the last validation; loss, " +
      "imbalance, importance and tokens/s are means over the last 10 steps.", {class: "faint"}));
}

function curves() {
  const place = panels(section("Curves"));
  figure(place, "Imbalance", "curves", {x: "step", y: "imbalance", low: 0,
    curves: jobs.flatMap((job, colour) => {
      const raw = points(job, "imbalance");
      const width = Math.max(5, Math.round(raw.length / 40));
      return [{label: `${job.job_id}, raw`, points: raw, faint: true, colour},
              {label: `${job.job_id}, smoothed`, points: plots.smoothed(raw, width), colour}];
    })});
  figure(place, "Loss and validation", "curves", {x: "step", y: "nats per token",
    curves: jobs.flatMap((job, colour) => [
      {label: job.job_id, points: points(job, "loss"), colour},
      {label: `${job.job_id}, validation`, points: points(job, "validation_loss"), colour,
        dashed: true}])});
  figure(place, "Validation, bits per byte", "curves", {x: "step", y: "bits per byte",
    curves: jobs.map((job, colour) => ({label: job.job_id, colour,
      points: points(job, "validation_bits_per_byte")}))});
  figure(place, "Least and greatest importance", "curves", {x: "step", y: "importance", low: 0,
    high: 1, curves: jobs.flatMap((job, colour) => [
      {label: `${job.job_id}, least`, points: points(job, "importance_min"), colour},
      {label: `${job.job_id}, greatest`, points: points(job, "importance_max"), colour,
        dashed: true}])});
  figure(place, "Aux loss", "curves", {x: "step", y: "aux loss",
    curves: jobs.map((job, colour) => ({label: job.job_id, colour,
      points: points(job, "aux_loss")}))});
}

function heads() {
  for (const job of jobs) {
    const place = panels(section(`Importance of the heads of ${job.job_id}`));
    for (const {step, importance} of job.heads) {
      const panel = element("div", null, {class: "panel"});
      const heat = element("div");
      panel.append(element("h3", `Step ${step}`), heat);
      place.append(panel);
      plots.heatmap(heat, importance, `Importance of every head at step ${step}`);
    }
    const last = job.heads.at(-1);
    if (last === undefined) continue;
    const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;
    figure(place, `By layer and head, step ${last.step}`, "points",
        {x: "layer", y: "importance", low: 0, high: 1, whole: true, curves: [
          {label: "heads", points: last.importance.flatMap((values, layer) =>
            values.map((value) => ({x: layer, y: value}))), colour: 0},
          {label: "mean of the layer", points: last.importance.map((values, layer) =>
            ({x: layer, y: mean(values)})), colour: 1, line: true}]});
  }
}

// The job file says `auto` where it was found: the run cannot be repeated without the number.
function microBatch({micro_batch: rows, micro_batch_is_auto: found}) {
  if (rows === null) return "auto, not known yet";
  return `${rows} ${rows === 1 ? "row" : "rows"}${found ? ", which auto chose" : ""}`;
}

function settings() {
  for (const job of jobs) {
    const list = element("dl");
    for (const [name, value] of [["state", `${job.state}${job.message ? ": " + job.message : ""}`],
                                 ["submitted", job.create_time], ["ended", job.end_time || "-"],
                                 ["attempts", job.attempts],
                                 ["micro-batch", microBatch(job)],
                                 ...job.environment.map(({worker, processor, version: built}) =>
                                   ["worker", `${worker}: ${processor}, SinkForge ${built}`])]) {
      list.append(element("dt", name), element("dd", value));
    }
    const file = element("details");
    file.append(element("summary", "Job file, every default filled in"),
        element("pre", job.job_file));
    section(`${job.job_id}: job and environment`, list, file);
  }
}

comparison();
curves();
heads();
settings();
