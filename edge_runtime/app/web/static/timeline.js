// The scores of the last five minutes, with each question's threshold and its responses.

import { element, setText } from "./dom.js";
import { clock, place, score } from "./format.js";

const SPAN_S = 300;
const MARGIN = { left: 30, right: 6, top: 12, bottom: 18 };
const COLORS = 6;

/** The colour of a question, as a name of a custom property of the style sheet. */
export const colorOf = (query) => `--q${((Number.parseInt(query.slice(1), 10) || 1) - 1) % COLORS + 1}`;

export class Timeline {
  #points = []; // { at, scores }, the oldest first
  #marks = []; // responses
  #queries = [];
  #live = true;
  #gap = 3;
  #skew = 0; // the server's clock before this one's, in seconds
  #canvas = element("canvas", { tabIndex: -1, role: "img" });
  #tip = element("div", { className: "tip", hidden: true });
  #pointer = null;
  #planned = false;

  constructor() {
    this.box = element("div", { className: "timeline" }, this.#canvas, this.#tip);
    new ResizeObserver(() => this.draw()).observe(this.box);
    this.#canvas.addEventListener("pointermove", (event) => { this.#pointer = event.offsetX; this.draw(); });
    this.#canvas.addEventListener("pointerleave", () => { this.#pointer = null; this.draw(); });
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.draw());
    setInterval(() => { if (this.#live) this.draw(); }, 1000);
  }

  /** `view`: the camera; `queries`: those that are drawn. */
  configure(view, queries) {
    this.#live = view.live;
    this.#gap = Math.max(3, 3 / view.fps);
    this.#queries = queries;
    this.draw();
  }

  /** Take over the scores that the server has kept. */
  fill(messages) {
    const kept = messages.map((message) => this.#point(message));
    const [first, last] = [kept[0]?.at ?? Infinity, kept[kept.length - 1]?.at ?? -Infinity];
    const outside = this.#points.filter(({ at }) => at < first || at > last);
    this.#points = [...outside, ...kept].sort((a, b) => a.at - b.at);
    this.draw();
  }

  /** The scores of one timestep. */
  add(message) {
    const added = this.#point(message);
    if (this.#live) this.#skew = added.at - Date.now() / 1000;
    this.#points.push(added);
    const from = added.at - SPAN_S;
    while (this.#points.length && this.#points[0].at < from) this.#points.shift();
    this.draw();
  }

  /** A response. */
  mark(event) {
    this.#marks.push({ at: place(event), query: event.query, score: event.score });
    const newest = Math.max(...this.#marks.map(({ at }) => at));
    this.#marks = this.#marks.filter(({ at }) => at >= newest - SPAN_S);
    this.draw();
  }

  /** Draw anew with the next frame of the screen. */
  draw() {
    if (this.#planned) return;
    this.#planned = true;
    requestAnimationFrame(() => { this.#planned = false; this.#paint(); });
  }

  #paint() {
    const { clientWidth: width, clientHeight: height } = this.box;
    if (!width || !height) return;
    const scale = devicePixelRatio || 1;
    if (this.#canvas.width !== Math.round(width * scale) || this.#canvas.height !== Math.round(height * scale)) {
      this.#canvas.width = Math.round(width * scale);
      this.#canvas.height = Math.round(height * scale);
    }
    const style = getComputedStyle(this.box);
    const color = (name) => style.getPropertyValue(name).trim();
    const pen = this.#canvas.getContext("2d");
    pen.setTransform(scale, 0, 0, scale, 0, 0);
    pen.clearRect(0, 0, width, height);
    pen.font = "11px system-ui, sans-serif";
    const now = this.#now();
    const x = (at) => MARGIN.left + (1 - (now - at) / SPAN_S) * (width - MARGIN.left - MARGIN.right);
    const y = (value) => height - MARGIN.bottom - value * (height - MARGIN.top - MARGIN.bottom);
    this.#grid(pen, { width, x, y, now, line: color("--line"), text: color("--faint") });
    for (const query of this.#queries) {
      pen.strokeStyle = pen.fillStyle = color(colorOf(query.id));
      pen.globalAlpha = query.paused ? 0.35 : 1;
      this.#curve(pen, query, x, y, now);
      pen.setLineDash([4, 4]);
      stroke(pen, 1, [[MARGIN.left, y(query.threshold)], [width - MARGIN.right, y(query.threshold)]]);
      pen.setLineDash([]);
      for (const mark of this.#marks) {
        if (mark.query === query.id && mark.at > now - SPAN_S && mark.at <= now + 1) flag(pen, x(mark.at), y(mark.score), y(1));
      }
      pen.globalAlpha = 1;
    }
    this.#readout(pen, { width, x, y, now, line: color("--faint") });
    this.#describe(now);
  }

  #point({ wall_time, time, scores }) {
    return { at: this.#live ? Date.parse(wall_time) / 1000 : time, scores };
  }

  #now() {
    if (this.#live) return Date.now() / 1000 + this.#skew;
    return Math.max(SPAN_S, this.#points[this.#points.length - 1]?.at ?? 0);
  }

  #grid(pen, { width, x, y, now, line, text }) {
    pen.strokeStyle = line;
    pen.fillStyle = text;
    pen.textAlign = "right";
    pen.textBaseline = "middle";
    for (const value of [0, 0.5, 1]) {
      stroke(pen, 1, [[MARGIN.left, y(value)], [width - MARGIN.right, y(value)]]);
      pen.fillText(String(value), MARGIN.left - 6, y(value));
    }
    pen.textBaseline = "top";
    const step = width < 440 ? 150 : 60; // labels of a narrow one would cross
    for (let back = 0; back <= SPAN_S; back += step) {
      const at = now - back;
      pen.textAlign = back === 0 ? "right" : back === SPAN_S ? "left" : "center";
      const label = this.#live ? (back === 0 ? "now" : `−${back / 60} min`) : clock(at);
      pen.fillText(label, x(at), y(0) + 5);
    }
  }

  #curve(pen, query, x, y, now) {
    let piece = [];
    let last = -Infinity;
    const end = () => {
      if (piece.length === 1) pen.fillRect(piece[0][0] - 1, piece[0][1] - 1, 2, 2);
      stroke(pen, 1.5, piece);
      piece = [];
    };
    for (const { at, scores } of this.#points) {
      const value = scores[query.id];
      if (at < now - SPAN_S) continue;
      if (value === undefined || at - last > this.#gap) end();
      if (value !== undefined) piece.push([x(at), y(value)]);
      last = at;
    }
    end();
  }

  #readout(pen, { width, x, y, now, line }) {
    const nearest = this.#pointer === null ? null : this.#nearest(x, now);
    this.#tip.hidden = nearest === null;
    if (nearest === null) return;
    pen.strokeStyle = line;
    stroke(pen, 1, [[x(nearest.at), y(0)], [x(nearest.at), y(1)]]);
    const values = this.#queries.filter(({ id }) => nearest.scores[id] !== undefined)
      .map(({ id }) => `${id} ${score(nearest.scores[id])}`);
    const when = this.#live ? `${Math.max(0, Math.round(now - nearest.at))} s ago` : clock(nearest.at);
    setText(this.#tip, [when, ...values].join(" · "));
    this.#tip.style.left = `${Math.min(Math.max(x(nearest.at), 60), width - 60)}px`;
  }

  #nearest(x, now) {
    let best = null;
    for (const one of this.#points) {
      if (one.at < now - SPAN_S) continue;
      if (best === null || Math.abs(x(one.at) - this.#pointer) < Math.abs(x(best.at) - this.#pointer)) best = one;
    }
    return best;
  }

  #describe(now) {
    const marks = this.#marks.filter(({ at }) => at > now - SPAN_S).length;
    const newest = this.#points[this.#points.length - 1]?.scores ?? {};
    const lines = this.#queries.map(({ id, threshold }) => `${id}: score ${score(newest[id])}, threshold ${score(threshold)}`);
    this.#canvas.setAttribute("aria-label", `Scores of five minutes. ${lines.join("; ")}. Responses: ${marks}.`);
  }
}

function stroke(pen, width, points) {
  pen.lineWidth = width;
  pen.beginPath();
  points.forEach(([px, py], index) => (index ? pen.lineTo(px, py) : pen.moveTo(px, py)));
  pen.stroke();
}

/** A response: a dot at its score and a flag above it. */
function flag(pen, px, py, top) {
  pen.beginPath();
  pen.arc(px, py, 3.5, 0, 2 * Math.PI);
  pen.fill();
  pen.beginPath();
  pen.moveTo(px - 5, top - 10);
  pen.lineTo(px + 5, top - 10);
  pen.lineTo(px, top - 2);
  pen.fill();
}
