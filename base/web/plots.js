// Curves, points and heatmaps of the coordinator's page and of reports. Chart.js draws axes and
// curves; a heatmap is a table, so that its numbers can be read, copied and heard.
"use strict";
const plots = (() => {
  const drawn = new Map();  // chart by canvas

  const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const curveColour = (at) => css(`--curve-${1 + at % 8}`);

  function number(value) {
    if (value === null || value === undefined || value === "") return "-";
    const x = Number(value);
    if (!Number.isFinite(x)) return String(value);
    if (x !== 0 && (Math.abs(x) < 1e-3 || Math.abs(x) >= 1e6)) return x.toExponential(2);
    return Number.isInteger(x) ? String(x) : x.toFixed(4);
  }

  // Mean of the last `width` points at each: what remains when a curve's noise is taken out.
  function smoothed(points, width) {
    let sum = 0;
    return points.map((point, at) => {
      sum += point.y - (at >= width ? points[at - width].y : 0);
      return {x: point.x, y: sum / Math.min(at + 1, width)};
    });
  }

  function dataset(curve, at, kind) {
    const colour = curveColour(curve.colour ?? at);
    // Chart.js draws those of a lower order above the others.
    return {label: curve.label, data: curve.points, showLine: kind === "curves" || curve.line === true,
      order: curve.faint || (kind === "points" && !curve.line) ? 1 : 0,
      borderColor: curve.faint ? colour + "59" : colour, backgroundColor: colour,
      borderWidth: curve.faint ? 1 : 1.8, borderDash: curve.dashed ? [5, 3] : [],
      pointRadius: kind === "points" || curve.points.length < 3 ? 3 : 0, pointHitRadius: 8,
      hidden: false};
  }

  function axis(title, grid, text) {
    return {type: "linear", title: {display: true, text: title, color: text},
      ticks: {color: text, maxRotation: 0}, grid: {color: grid, borderColor: grid}};
  }

  function configuration(settings, kind) {
    const text = css("--faint");
    const grid = css("--line");
    const scales = {x: axis(settings.x, grid, text), y: axis(settings.y, grid, text)};
    if (settings.low !== undefined) scales.y.min = settings.low;
    if (settings.high !== undefined) scales.y.max = settings.high;
    if (settings.whole) scales.x.ticks.precision = 0;
    return {
      type: "scatter",
      data: {datasets: settings.curves.map((curve, at) => dataset(curve, at, kind))},
      options: {
        animation: false, responsive: true, maintainAspectRatio: false, parsing: false,
        interaction: {mode: "nearest", axis: kind === "curves" ? "x" : "xy", intersect: false},
        scales,
        plugins: {
          legend: {labels: {color: css("--text"), boxWidth: 18, boxHeight: 2},
            display: settings.curves.length > 1},
          tooltip: {callbacks: {
            label: (item) => `${item.dataset.label}: ${number(item.parsed.y)} ` +
                `(${settings.x} ${number(item.parsed.x)})`}},
        },
      },
    };
  }

  // Empty axes would look like a mistake of the page. True: there is nothing to draw.
  function noteEmptiness(canvas, settings) {
    const empty = settings.curves.every((curve) => curve.points.length === 0);
    const note = canvas.parentElement.querySelector(".nothing");
    if (empty && note === null) {
      canvas.parentElement.append(element("p", "no data", {class: "nothing"}));
    } else if (!empty) {
      note?.remove();
    }
    canvas.hidden = empty;
    if (empty) forget(canvas);
    return empty;
  }

  // settings: x, y (axis titles), curves: [{label, points: [{x, y}], dashed, faint, line, colour}],
  // low, high, whole. `line`: among points, one that is joined and lies above them. Called again for
  // the same canvas it takes the new curves.
  function draw(canvas, settings, kind) {
    if (noteEmptiness(canvas, settings)) return;
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", `${settings.y} over ${settings.x}: ` +
        settings.curves.map((curve) => curve.label).join(", "));
    const next = configuration(settings, kind);
    const entry = drawn.get(canvas);
    if (entry === undefined) {
      drawn.set(canvas, {chart: new Chart(canvas, next), settings, kind});
      return;
    }
    entry.settings = settings;
    entry.chart.data = next.data;
    entry.chart.options = next.options;
    entry.chart.update("none");
  }

  function forget(canvas) {
    drawn.get(canvas)?.chart.destroy();
    drawn.delete(canvas);
  }

  // Viridis at five stops: one colour order from dark to light that also reads in grey.
  const stops = [[68, 1, 84], [59, 82, 139], [33, 145, 140], [94, 201, 98], [253, 231, 37]];
  function heat(share) {
    const place = Math.min(Math.max(share, 0), 1) * (stops.length - 1);
    const at = Math.min(Math.floor(place), stops.length - 2);
    return stops[at].map((low, i) => Math.round(low + (stops[at + 1][i] - low) * (place - at)));
  }

  function element(name, text, more) {
    const made = document.createElement(name);
    if (text !== undefined && text !== null) made.textContent = text;
    for (const [key, value] of Object.entries(more ?? {})) made.setAttribute(key, value);
    return made;
  }

  // rows[layer][head] of importances, 0 to 1.
  function heatmap(place, rows, caption) {
    const table = element("table", null, {class: "heat", "aria-label": caption});
    const top = element("tr");
    top.append(element("th", "L\\H"));
    (rows[0] ?? []).forEach((_, head) => top.append(element("th", head, {scope: "col"})));
    table.append(top);
    rows.forEach((values, layer) => {
      const row = element("tr");
      row.append(element("th", layer, {scope: "row"}));
      values.forEach((value, head) => {
        const known = Number.isFinite(value);
        const cell = element("td", known ? value.toFixed(2) : "-",
            {title: `layer ${layer}, head ${head}: ${number(value)}`});
        if (known) {
          const [r, g, b] = heat(value);
          cell.style.backgroundColor = `rgb(${r}, ${g}, ${b})`;
          cell.style.color = 0.3 * r + 0.6 * g + 0.1 * b > 130 ? "#000" : "#fff";
        }
        row.append(cell);
      });
      table.append(row);
    });
    const scroll = element("div", null, {class: "scroll", tabindex: "0"});
    scroll.append(table);
    place.replaceChildren(scroll);
  }

  function redraw() {
    for (const [canvas, {settings, kind}] of drawn) draw(canvas, settings, kind);
  }
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);

  return {
    curves: (canvas, settings) => draw(canvas, settings, "curves"),
    points: (canvas, settings) => draw(canvas, settings, "points"),
    element, forget, heatmap, number, smoothed,
  };
})();
