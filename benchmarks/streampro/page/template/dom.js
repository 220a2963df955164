// Elements, numbers, the tooltip. Text of the data reaches the page here, and only as text nodes.
const DATA = JSON.parse(document.getElementById("data").textContent);

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return element;
}

/** An HTML element; children are elements or text. */
function h(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

/** An SVG element. */
function s(tag, attributes = {}, ...children) {
  return fill(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);
}

function byId(id) {
  return document.getElementById(id);
}

/** A share of [0, 1] in points. */
function points(value) {
  return (100 * value).toFixed(1);
}

/** Seconds with at most two decimals, no unit. */
function seconds(value) {
  return String(Math.round(value * 100) / 100);
}

function count(number, one, many = `${one}s`) {
  return `${number.toLocaleString("en")} ${number === 1 ? one : many}`;
}

/** Round steps (1, 2, 5 times a power of ten) that cut `length` into at most `most` parts. */
function niceStep(length, most) {
  const raw = length / most;
  const power = 10 ** Math.floor(Math.log10(raw));
  return [1, 2, 5, 10].map((factor) => factor * power).find((step) => step >= raw * 0.999);
}

/** A table that scrolls sideways on narrow screens. Columns whose head is in `left` are not numbers. */
function table(caption, columns, rows, left = [columns[0]]) {
  const align = columns.map((column) => (left.includes(column) ? "left" : null));
  return h(
    "table",
    {},
    caption ? h("caption", {}, caption) : null,
    h("thead", {}, h("tr", {}, columns.map((column, i) => h("th", { scope: "col", class: align[i] }, column)))),
    h(
      "tbody",
      {},
      rows.map((row) =>
        h("tr", {}, row.map((cell, i) => (i ? h("td", { class: align[i] }, cell) : h("th", { scope: "row", class: align[i] }, cell)))),
      ),
    ),
  );
}

const tips = new WeakMap();

/** Shows `text` while the pointer is over `element` or after a tap on it. */
function tip(element, text) {
  tips.set(element, text);
  element.classList.add("has-tip");
  return element;
}

function startTips() {
  const box = byId("tip");
  const hide = () => {
    box.hidden = true;
  };
  const show = (event) => {
    const target = event.target.closest?.(".has-tip");
    if (!target) return hide();
    box.textContent = tips.get(target);
    box.hidden = false;
    const mark = target.getBoundingClientRect();
    const gap = 10;
    const left = mark.left + mark.width / 2 - box.offsetWidth / 2;
    const above = mark.top - box.offsetHeight - gap;
    box.style.left = `${Math.max(6, Math.min(left, document.documentElement.clientWidth - box.offsetWidth - 6))}px`;
    box.style.top = `${above > 4 ? above : mark.bottom + gap}px`;
  };
  document.addEventListener("pointerover", show);
  document.addEventListener("click", show);
  document.addEventListener("scroll", hide, { passive: true });
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape") hide();
  });
}
