// When the model speaks (histogram per task) and whether its score means what it says.

function drawEarliness() {
  const charts = Object.entries(DATA.earliness).map(([code, each]) => drawOffsets(code, each));
  const rows = Object.entries(DATA.earliness).map(([code, each]) => {
    const total = (list, keep) => list.reduce((sum, n, i) => sum + (keep(each.offsets[i]) ? n : 0), 0);
    const all = each.inside.map((n, i) => n + each.outside[i]);
    return [
      code,
      ...[(o) => o < 0, (o) => o === 0, (o) => o > 0].map((keep) => String(total(all, keep))),
      String(total(each.inside, () => true)),
      each.median_s === null ? "-" : `${seconds(each.median_s)} s`,
    ];
  });
  const key = h(
    "p",
    { class: "key" },
    h("span", {}, h("i", { class: "swatch inside" }), "in a matching window"),
    h("span", {}, h("i", { class: "swatch outside" }), "outside every window"),
    h("span", {}, h("i", { class: "swatch window" }), "window of the task"),
  );
  return figure(
    "Early or late",
    "Response time minus best time, in seconds; left of 0 is early. A response outside every window is set against the nearest best time. For EU and TP 0 is anywhere in the event.",
    h("div", {}, h("div", { class: "small-multiples" }, charts), key),
    table(null, ["task", "early", "within 0.5 s", "late", "in a window", "median there"], rows),
  );
}

/** One task: bars of a second, those in a window below those outside. */
function drawOffsets(code, { offsets, inside, outside, median_s }) {
  const width = 168;
  const height = 96;
  const bottom = height - 18;
  const top = 20;
  const limit = offsets[offsets.length - 1];
  const bar = width / offsets.length;
  const most = Math.max(1, ...inside.map((n, i) => n + outside[i]));
  const x = (offset) => (offset + limit + 0.5) * bar;
  const tall = (n) => ((bottom - top) * n) / most;
  const said = inside.reduce((a, b) => a + b, 0) + outside.reduce((a, b) => a + b, 0);
  const about = median_s === null ? `${said} said, none in a window` : `${said} said, median ${seconds(median_s)} s`;
  const root = s("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", class: "offsets", "aria-label": `${code}: ${about}` });
  const [from, to] = DATA.tasks[code].window;
  root.append(
    s("rect", { class: "window", x: x(from - 0.5), y: top, width: x(to + 0.5) - x(from - 0.5), height: bottom - top }),
    s("text", { x: 0, y: 12, class: "label" }, code),
    s("text", { x: width, y: 12, "text-anchor": "end" }, said ? about : "no response"),
    s("line", { class: "base", x1: 0, x2: width, y1: bottom, y2: bottom }),
  );
  offsets.forEach((offset, i) => {
    const all = inside[i] + outside[i];
    if (!all) return;
    const ends = offset === -limit ? " or earlier" : offset === limit ? " or later" : "";
    const group = s("g", {}, s("rect", { class: "hit", x: x(offset - 0.5), y: top, width: bar, height: bottom - top }));
    group.append(s("rect", { class: "inside", x: x(offset - 0.5) + 0.5, y: bottom - tall(inside[i]), width: bar - 1, height: tall(inside[i]) }));
    group.append(s("rect", { class: "outside", x: x(offset - 0.5) + 0.5, y: bottom - tall(all), width: bar - 1, height: tall(outside[i]) }));
    root.append(tip(group, `${code}, ${offset > 0 ? "+" : ""}${offset} s${ends}\n${inside[i]} in a window, ${outside[i]} outside`));
  });
  root.append(s("line", { class: "zero", x1: x(0), x2: x(0), y1: top - 3, y2: bottom }));
  for (const offset of [-limit, -limit / 2, 0, limit / 2, limit]) {
    const anchor = offset === -limit ? "start" : offset === limit ? "end" : "middle";
    const text = Math.abs(offset) === limit ? (offset < 0 ? `\u2264${offset}` : `\u2265${offset}`) : String(offset);
    root.append(s("text", { x: offset === -limit ? 0 : offset === limit ? width : x(offset), y: height - 4, "text-anchor": anchor }, text));
  }
  return root;
}

function drawReliability() {
  const found = DATA.reliability;
  const title = "Does the score mean what it says?";
  if (!found) {
    return figure(title, "Reliability of the decision score.", h("p", { class: "absent" }, "Not recorded: the predictions carry no scores of their timesteps."), null);
  }
  const height = 300;
  const { root, layer, x, y, box } = plot({
    xLimit: 1, yLimit: 1, height, xLabel: "score: probability of speaking", yLabel: "share where speaking was right",
    format: (value) => value.toFixed(1), label: "Reliability diagram of the decision score; the numbers are in the table below",
  });
  const most = Math.max(...found.bins.map((bin) => bin.timesteps));
  layer.append(s("line", { class: "diagonal", x1: x(0), y1: y(0), x2: x(1), y2: y(1) }));
  if (DATA.threshold !== null) {
    layer.append(
      s("line", { class: "threshold", x1: x(DATA.threshold), x2: x(DATA.threshold), y1: box.top, y2: box.bottom }),
      s("text", { class: "threshold-label", x: x(DATA.threshold) + 4, y: box.bottom - 6 }, `speaks from ${seconds(DATA.threshold)}`),
    );
  }
  layer.append(s("path", { class: "curve", d: `M${found.bins.map((bin) => `${x(bin.score)} ${y(bin.right)}`).join("L")}` }));
  for (const bin of found.bins) {
    const text = `score ${seconds(bin.low)} to ${seconds(bin.high)}: ${count(bin.timesteps, "timestep")}\nmean score ${bin.score.toFixed(3)}, right in ${points(bin.right)} %`;
    const radius = 3 + 6 * Math.sqrt(bin.timesteps / most);
    layer.append(tip(s("circle", { class: "bin", cx: x(bin.score), cy: y(bin.right), r: radius }), text));
  }
  const rows = found.bins.map((bin) => [
    `${bin.low.toFixed(1)} to ${bin.high.toFixed(1)}`, bin.timesteps.toLocaleString("en"), bin.score.toFixed(3), `${points(bin.right)} %`,
  ]);
  return figure(
    title,
    `Speaking was right when it fell in the window of a true answer not given yet. On the diagonal the score is a true probability; below it the model speaks too readily, above it too seldom. Larger dots hold more of the ${count(found.timesteps, "timestep")} of ${count(found.questions, "question")}; the mean gap is ${found.error.toFixed(3)}.`,
    root,
    table(null, ["score", "timesteps", "mean score", "right"], rows),
  );
}
