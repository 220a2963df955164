// One camera: what it sees, its scores, its questions, and a box to ask.

import { call, cameraPath } from "./api.js";
import { removeButton } from "./changes.js";
import { element, setText } from "./dom.js";
import { milliseconds } from "./format.js";
import { Preview } from "./preview.js";
import { QueryRow } from "./query.js";
import { Timeline } from "./timeline.js";

const GOOD = new Set(["live", "ended"]);
const BAD = new Set(["failed", "auth-failed"]);

export class CameraCard {
  #view;
  #state = element("span", { className: "pill" });
  #cause = element("p", { className: "cause", hidden: true });
  #facts = element("p", { className: "facts" });
  #preview;
  #timeline = new Timeline();
  #rows = new Map(); // by id
  #queries = new Map();
  #list = element("ul", { className: "queries", "aria-label": "Questions" });
  #none = element("p", { className: "faint", textContent: "No question yet. Ask one: it is in force at the next timestep." });
  #input = element("input", {
    type: "text", maxLength: 2000, required: true, placeholder: "Tell me when …", autocomplete: "off", "aria-label": "Question",
  });
  #error = element("p", { className: "error", role: "alert", hidden: true });
  #asks = 0;

  /** `onRemoved()`: it is not watched any more. */
  constructor(view, onRemoved) {
    this.#preview = new Preview(view.name);
    const ask = element("form", { className: "ask", on: { submit: (event) => { event.preventDefault(); this.#ask(); } } },
      this.#input, element("button", { type: "submit", textContent: "Ask" }));
    this.box = element("article", { className: "camera" },
      element("div", { className: "bar" }, element("h2", { textContent: view.name }),
        element("span", { className: "line" }, this.#state, removeButton(view.name, (error) => this.#removed(error, onRemoved)))),
      this.#cause,
      element("div", { className: "halves" },
        element("div", {}, this.#preview.box, this.#facts),
        element("div", {}, this.#none, this.#list, ask, this.#error)),
      this.#timeline.box);
    this.update(view);
  }

  /** Take over what the server says of the camera. */
  update(view) {
    this.#view = view;
    setText(this.#state, view.state || "starting");
    this.#state.className = `pill ${GOOD.has(view.state) ? "good" : BAD.has(view.state) ? "bad" : "busy"}`;
    setText(this.#cause, view.cause);
    this.#cause.hidden = view.state === "live" || !view.cause;
    const size = view.width ? `${view.width}×${view.height}` : null;
    const latency = view.p50_ms === null ? null : `p50 ${milliseconds(view.p50_ms)}, p99 ${milliseconds(view.p99_ms)}`;
    const reconnects = view.reconnects ? `${view.reconnects} ${view.reconnects === 1 ? "reconnect" : "reconnects"}` : null;
    const facts = [latency, `${view.dropped} dropped`, reconnects, `${Number(view.fps.toFixed(2))} per second`, size, view.decoder === "none" ? null : view.decoder];
    setText(this.#facts, facts.filter(Boolean).join(" · "));
    this.#facts.title = "Latency from the frame to the decision; frames that the model was too slow for; timesteps; video; decoder";
    this.#preview.frame(view);
    this.#timeline.configure(view, [...this.#queries.values()]);
  }

  /** Fetch questions, and scores if `scores`: after connecting. */
  async refresh({ scores = false } = {}) {
    const path = cameraPath(this.#view.name);
    const asks = this.#asks;
    const [queries, kept] = await Promise.all([
      call("GET", `${path}/queries`), scores ? call("GET", `${path}/scores`) : null,
    ]);
    if (kept !== null) this.#timeline.fill(kept);
    if (asks !== this.#asks) return; // a change was made meanwhile: the answer may be older than it
    for (const id of this.#queries.keys()) if (!queries.some((query) => query.id === id)) this.#queries.delete(id);
    for (const query of queries) this.#queries.set(query.id, query);
    this.#draw();
    this.#preview.refresh();
  }

  /** The scores of a timestep. */
  addScores(message) {
    this.#preview.renew();
    this.#timeline.add(message);
    for (const [id, value] of Object.entries(message.scores)) {
      const query = this.#queries.get(id);
      if (query) { query.score = value; query.asked = true; }
      this.#rows.get(id)?.score(value);
    }
  }

  /** A response; `fresh`: it has just come. */
  addResponse(event, fresh) {
    this.#timeline.mark(event);
    if (fresh) this.#preview.say(event.text);
  }

  setState(state, cause) {
    this.update({ ...this.#view, state, cause });
  }

  /** Put a question into the box to ask. */
  suggest(text) {
    this.#input.value = text;
    this.#input.focus();
    this.#input.scrollIntoView({ block: "center" });
  }

  #removed(error, onRemoved) {
    if (error === null) return onRemoved();
    setText(this.#error, `Not removed: ${error.message}`);
    this.#error.hidden = false;
  }

  async #ask() {
    const text = this.#input.value.trim();
    if (!text) return;
    this.#error.hidden = true;
    try {
      const asked = await call("POST", `${cameraPath(this.#view.name)}/queries`, { text });
      this.#input.value = "";
      this.#changed(asked.id, asked);
    } catch (error) {
      setText(this.#error, `Not asked: ${error.message}`);
      this.#error.hidden = false;
    }
  }

  #changed(id, query) {
    this.#asks += 1;
    if (query === null) this.#queries.delete(id);
    else this.#queries.set(id, query);
    this.#draw();
  }

  #draw() {
    for (const [id, row] of this.#rows) {
      if (!this.#queries.has(id)) {
        row.box.remove();
        this.#rows.delete(id);
      }
    }
    for (const [id, query] of this.#queries) {
      if (this.#rows.has(id)) {
        this.#rows.get(id).update(query);
      } else {
        const row = new QueryRow(this.#view.name, query, (...change) => this.#changed(...change));
        this.#rows.set(id, row);
        this.#list.append(row.box);
      }
    }
    this.#none.hidden = this.#queries.size > 0;
    this.#timeline.configure(this.#view, [...this.#queries.values()]);
  }
}
