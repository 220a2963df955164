// The head of the page: the score, the baselines beside it, the table, precision and recall.

function drawHead() {
  byId("title").textContent = DATA.title;
  byId("summary").textContent = DATA.summary;
  byId("facts").append(...DATA.facts.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value))));
  byId("notes").append(...DATA.notes.map((note) => h("li", {}, note)));
  const { weighted, average, dimensions } = DATA.report;
  if (!weighted) return;
  const big = (name, about, summary) => {
    const interval = summary.intervals.f1;
    return h(
      "div",
      { class: "stat" },
      h("div", { class: "stat-name" }, name),
      h("div", { class: "stat-value" }, points(summary.f1)),
      h("div", { class: "stat-about" }, interval ? `95 %: ${points(interval[0])} to ${points(interval[1])}` : "no interval"),
      h("div", { class: "stat-about" }, about),
    );
  };
  byId("headline").append(
    big("W-Avg F1", "tasks weighed by questions", weighted),
    big("Avg F1", `mean of ${count(Object.keys(dimensions).length, "dimension")}`, average),
    h("div", { class: "strip" }, h("div", { class: "stat-name" }, Object.keys(DATA.baselines.scores).length ? "W-Avg F1 beside the trivial baselines" : "W-Avg F1"), drawStrip()),
  );
}

/** One row per competitor on a common axis of points. */
function drawStrip() {
  const { weighted } = DATA.report;
  const rows = [
    { name: "predictions", f1: weighted.f1, interval: weighted.intervals.f1, own: true },
    ...Object.entries(DATA.baselines.scores)
      .map(([name, each]) => ({ name, f1: each.weighted }))
      .sort((a, b) => b.f1 - a.f1),
  ];
  return h(
    "table",
    { class: "strip-table" },
    h("thead", { "aria-hidden": "true" }, h("tr", {}, h("td"), h("td"), h("td", { class: "forest" }, axisHead()))),
    h("tbody", {}, rows.map((row) =>
      h(
        "tr",
        { class: row.own ? "own" : null },
        h("th", { scope: "row" }, row.name),
        h("td", {}, points(row.f1)),
        h("td", { class: "forest" }, forest(row.f1, row.interval, row.own ? "dot" : "bar")),
      ),
    )),
  );
}

function axisHead() {
  return h("span", { class: "axis-head" }, ["0", "25", "50", "75", "100"].map((value) => h("span", {}, value)));
}

/** An F1 on an axis of 0 to 100 with its interval; `other` is a value to compare it with. */
function forest(f1, interval, kind, other = null) {
  const at = (value) => `${100 * value}%`;
  const root = s("svg", { class: "forest-row", height: 20, "aria-hidden": "true" });
  for (const line of [0, 0.25, 0.5, 0.75, 1]) root.append(s("line", { class: "tick", x1: at(line), x2: at(line), y1: 0, y2: 20 }));
  if (kind === "bar") root.append(s("rect", { class: "baseline-bar", x: 0, y: 6, width: at(f1), height: 8 }));
  if (interval) root.append(s("line", { class: "whisker", x1: at(interval[0]), x2: at(interval[1]), y1: 10, y2: 10 }));
  if (kind !== "bar") root.append(s("circle", { class: `estimate ${kind}`, cx: at(f1), cy: 10, r: kind === "mean" ? 5.5 : 4.5 }));
  if (other !== null) {
    root.append(s("svg", { x: at(other), y: 10, overflow: "visible" }, s("path", { class: "other", d: "M0-5 5 0 0 5-5 0Z" })));
  }
  return root;
}

function drawTables() {
  const { columns, rows } = DATA.table;
  const axis = axisHead();
  const head = [...columns.slice(0, -1), "95 %", axis].map((column, i) =>
    h("th", { scope: "col", class: i ? (column === axis ? "forest" : null) : "left" }, i ? column : "task, dimension"),
  );
  const body = rows.map((row) => {
    const note = row.baseline ? `best trivial baseline: ${row.baseline.name}, ${points(row.baseline.f1)}` : "";
    const drawn = forest(row.f1, row.interval, row.kind === "mean" ? "mean" : "dot", row.baseline?.f1 ?? null);
    return h(
      "tr",
      { class: row.kind },
      row.cells.map((cell, i) => (i ? h("td", { class: columns[i] === "F1" ? "f1" : null }, cell) : h("th", { scope: "row", class: "left" }, cell))),
      h("td", { class: "forest" }, tip(h("span", { class: "forest-tip" }, drawn, h("span", { class: "hidden" }, note)), note)),
    );
  });
  byId("table").append(h("table", { class: "score-table" }, h("thead", {}, h("tr", {}, head)), h("tbody", {}, body)));
  const { columns: names, rows: each, scores } = DATA.baselines;
  const compared = Object.keys(scores).length > 0;
  byId("diamond").hidden = !compared;
  byId("baseline-details").hidden = !compared;
  byId("baselines").append(table(null, names, each));
}

/** Mean precision against mean recall of each task, with lines of equal F1. */
function drawPrecisionRecall() {
  const marks = Object.entries(DATA.report.tasks).map(([code, task]) => ({
    code, dimension: DATA.tasks[code].dimension, p: 100 * task.precision, r: 100 * task.recall, f1: 100 * task.f1,
  }));
  const most = Math.max(...marks.map((mark) => Math.max(mark.p, mark.r)), 0);
  const limit = [2, 5, 10, 25, 50, 100].find((value) => most <= value);
  const { root, layer, x, y, box } = plot({
    xLimit: limit, yLimit: limit, xLabel: "recall", yLabel: "precision", format: seconds,
    label: "Precision and recall by task; the table above has the numbers",
  });
  for (const share of [0.2, 0.4, 0.6, 0.8]) {
    const f1 = share * limit;
    const line = [];
    for (let r = f1 / (2 - f1 / limit); r <= limit + 1e-9; r += limit / 100) line.push(`${x(r).toFixed(1)} ${y((f1 * r) / (2 * r - f1)).toFixed(1)}`);
    layer.append(
      s("path", { class: "contour", d: `M${line.join("L")}` }),
      s("text", { class: "contour-label", x: box.right - 3, y: y((f1 * limit) / (2 * limit - f1)) - 4, "text-anchor": "end" }, `F1 ${seconds(f1)}`),
    );
  }
  for (const mark of marks) Object.assign(mark, { x: x(mark.r), y: y(mark.p) });
  const place = labelPlacer(marks, box);
  for (const mark of marks) {
    const text = `${mark.code} ${DATA.tasks[mark.code].name}\nprecision ${mark.p.toFixed(1)}, recall ${mark.r.toFixed(1)}, F1 ${mark.f1.toFixed(1)}`;
    layer.append(tip(s("g", { transform: `translate(${mark.x} ${mark.y})` }, dimensionMark(mark.dimension)), text), place(mark, mark.code));
  }
  const present = [...new Set(marks.map((mark) => mark.dimension))];
  const key = h("p", { class: "key" }, present.map((dimension) =>
    h("span", {}, s("svg", { width: 16, height: 16, viewBox: "-8 -8 16 16", "aria-hidden": "true" }, dimensionMark(dimension)), dimension ? `${dimension} ${DATA.dimensions[dimension]}` : "training only"),
  ));
  return figure(
    "Precision and recall",
    "Farther right, more of the true answers are given; farther up, less is said in vain. The dashed lines join points of equal F1.",
    h("div", {}, root, key),
    null,
  );
}
