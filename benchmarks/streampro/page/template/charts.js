// What the charts share: a square plot with axes, and the figure around it.

/**
 * Plot of `width` x `height` with room for axes; `x` and `y` map [0, limit] to it.
 * Axes are in `unit`s; `layer` takes the marks.
 */
function plot({ width = 340, height = 300, xLimit, yLimit, xLabel, yLabel, label, format = String }) {
  const box = { left: 44, right: width - 12, top: 10, bottom: height - 40 };
  const x = (value) => box.left + ((box.right - box.left) * value) / xLimit;
  const y = (value) => box.bottom - ((box.bottom - box.top) * value) / yLimit;
  const root = s("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": label, class: "plot" });
  const grid = s("g", { class: "grid", "aria-hidden": "true" });
  for (let i = 0; i <= 5; i += 1) {
    const across = (xLimit * i) / 5;
    const up = (yLimit * i) / 5;
    grid.append(
      s("line", { x1: x(across), x2: x(across), y1: box.top, y2: box.bottom }),
      s("line", { x1: box.left, x2: box.right, y1: y(up), y2: y(up) }),
      s("text", { x: x(across), y: box.bottom + 15, "text-anchor": "middle" }, format(across)),
      s("text", { x: box.left - 6, y: y(up) + 4, "text-anchor": "end" }, format(up)),
    );
  }
  const middle = (box.top + box.bottom) / 2;
  grid.append(
    s("text", { x: (box.left + box.right) / 2, y: height - 6, "text-anchor": "middle", class: "axis" }, xLabel),
    s("text", { transform: `translate(11 ${middle}) rotate(-90)`, "text-anchor": "middle", class: "axis" }, yLabel),
  );
  const layer = s("g");
  root.append(grid, layer);
  return { root, layer, x, y, box };
}

/** A figure with its title, a sentence on how to read it, the drawing, and its numbers as a table. */
function figure(title, lead, drawing, numbers) {
  return h(
    "figure",
    {},
    h("h3", {}, title),
    h("p", { class: "lead" }, lead),
    drawing,
    numbers ? h("details", {}, h("summary", {}, "The numbers"), h("div", { class: "scroll" }, numbers)) : null,
  );
}

const DIMENSION_SHAPES = { PU: "circle", TR: "square", PA: "triangle" };

/** A mark of the dimension's shape and colour, centred on 0, 0. */
function dimensionMark(dimension, size = 6) {
  const style = { class: `dimension ${dimension ? dimension.toLowerCase() : "none"}` };
  if (DIMENSION_SHAPES[dimension] === "square") {
    return s("rect", { ...style, x: -size * 0.9, y: -size * 0.9, width: size * 1.8, height: size * 1.8 });
  }
  if (DIMENSION_SHAPES[dimension] === "triangle") {
    return s("path", { ...style, d: `M0 ${-size * 1.15}L${size * 1.1} ${size * 0.85}H${-size * 1.1}Z` });
  }
  return s("circle", { ...style, r: size });
}

/**
 * For labels beside points: the first of the places around a point, then farther away with a line to it, that
 * hits no point and no earlier label.
 */
function labelPlacer(marks, box) {
  const taken = marks.map(({ x, y }) => ({ left: x - 7, right: x + 7, top: y - 7, bottom: y + 7 }));
  return ({ x, y }, text) => {
    const wide = text.length * 9.5;
    const near = [
      [10, 4, "start"], [-10, 4, "end"], [0, -11, "middle"], [0, 20, "middle"],
      [9, -8, "start"], [9, 17, "start"], [-9, -8, "end"], [-9, 17, "end"],
    ];
    const far = [24, 38, 52].flatMap((by) => [
      [by, 4 - by, "start"], [0, 4 - by, "middle"], [by, 4, "start"], [-by, 4 - by, "end"],
      [-by, 4, "end"], [0, 4 + by, "middle"], [by, 4 + by, "start"], [-by, 4 + by, "end"],
    ]);
    const places = [...near, ...far].map(([dx, dy, anchor], i) => {
      const left = x + dx - (anchor === "end" ? wide : anchor === "middle" ? wide / 2 : 0);
      const box = { left, right: left + wide, top: y + dy - 10, bottom: y + dy + 2 };
      return { x: x + dx, y: y + dy, anchor, ...box, far: i >= near.length };
    });
    const hits = (a, b) => a.left < b.right && b.left < a.right && a.top < b.bottom && b.top < a.bottom;
    const inside = (a) => a.left >= box.left && a.right <= box.right && a.top >= box.top && a.bottom <= box.bottom;
    const place = places.find((p) => inside(p) && !taken.some((other) => hits(p, other))) ?? places[0];
    taken.push(place);
    const end = { x2: Math.min(Math.max(x, place.left), place.right), y2: place.bottom };
    return s(
      "g",
      {},
      place.far ? s("line", { class: "leader", x1: x, y1: y, ...end }) : null,
      s("text", { x: place.x, y: place.y, "text-anchor": place.anchor, class: "label" }, text),
    );
  };
}
