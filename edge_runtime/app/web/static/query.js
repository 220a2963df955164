// One question: its score, its threshold as a slider, pause and delete.

import { call, cameraPath } from "./api.js";
import { element, setText, toast } from "./dom.js";
import { score } from "./format.js";
import { colorOf } from "./timeline.js";

export class QueryRow {
  #camera;
  #query;
  #onChange;
  #text = element("span", { className: "question" });
  #score = element("output", { className: "score", title: "Score of the newest timestep" });
  #meter = element("div", { className: "fill" });
  #threshold = element("output", { className: "number" });
  #slider = element("input", { type: "range", min: "0", max: "1", step: "0.01" });
  #pause = element("button", { type: "button" });
  #delete = element("button", { type: "button", className: "quiet", textContent: "Delete" });
  #note = element("p", { className: "note", hidden: true });
  #held = false; // the slider is being moved

  /** `onChange(id, query)`: that question is different now, or new; null: it is gone. */
  constructor(camera, query, onChange) {
    this.#camera = camera;
    this.#onChange = onChange;
    this.#slider.addEventListener("input", () => { this.#held = true; this.#preview(); });
    this.#slider.addEventListener("change", () => this.#change({ threshold: this.#slider.valueAsNumber }));
    this.#pause.addEventListener("click", () => this.#change({ paused: !this.#query.paused }));
    this.#delete.addEventListener("click", () => this.#withdraw());
    const swatch = element("span", { className: "swatch", "aria-hidden": "true" });
    this.box = element("li", { className: "query" },
      element("div", { className: "line" }, swatch, this.#text, this.#score),
      this.#note,
      element("div", { className: "line controls" },
        element("label", { className: "threshold" },
          element("span", { className: "faint", textContent: "Threshold" }),
          element("span", { className: "track" }, element("span", { className: "meter" }, this.#meter), this.#slider),
          this.#threshold),
        this.#pause, this.#delete));
    this.box.style.setProperty("--own", `var(${colorOf(query.id)})`);
    this.update(query);
  }

  update(query) {
    this.#query = query;
    setText(this.#text, query.text);
    this.box.classList.toggle("paused", query.paused);
    if (!this.#held) {
      this.#slider.value = String(query.threshold);
      setText(this.#threshold, score(query.threshold));
    }
    const foreign = query.unknown_words.length > 0;
    setText(this.#pause, foreign && query.paused ? "Ask anyway" : query.paused ? "Resume" : "Pause");
    for (const [control, does] of [[this.#slider, "Threshold of"], [this.#pause, this.#pause.textContent], [this.#delete, "Delete"]]) {
      control.setAttribute("aria-label", `${does}: ${query.text}`);
    }
    const words = query.unknown_words.map((word) => `“${word}”`).join(", ");
    const end = query.paused ? ", so it is not watched for." : "; its responses may mean nothing.";
    setText(this.#note, foreign ? `The model was not trained for ${words}${end}` : "");
    this.#note.hidden = !foreign;
    this.score(query.paused ? null : query.score);
  }

  /** Of the newest timestep; null while it is paused. */
  score(value) {
    setText(this.#score, this.#query.paused ? "paused" : !this.#query.asked ? "waits" : score(value));
    this.#meter.style.transform = `scaleX(${value ?? 0})`;
    this.#meter.classList.toggle("above", value !== null && value >= this.#query.threshold);
  }

  #preview() {
    const threshold = this.#slider.valueAsNumber;
    setText(this.#threshold, score(threshold));
    this.#onChange(this.#query.id, { ...this.#query, threshold });
  }

  async #change(change) {
    try {
      const query = await call("PATCH", `${cameraPath(this.#camera)}/queries/${this.#query.id}`, change);
      this.#held = false;
      this.#onChange(query.id, query);
    } catch (error) {
      this.#held = false;
      this.update(this.#query);
      toast(`Not changed: ${error.message}`);
    }
  }

  async #withdraw() {
    const { id, text, threshold, min_gap, repeat, debounce, budget, quiet_hours } = this.#query;
    const queries = `${cameraPath(this.#camera)}/queries`;
    try {
      await call("DELETE", `${queries}/${id}`);
    } catch (error) {
      toast(`Not deleted: ${error.message}`);
      return;
    }
    this.#onChange(id, null);
    toast(`Deleted: ${text}`, "Ask again", () => {
      call("POST", queries, { text, threshold, min_gap, repeat, debounce, budget, quiet_hours })
        .then((asked) => this.#onChange(asked.id, asked))
        .catch((error) => toast(`Not asked: ${error.message}`));
    });
  }
}
