// What a camera sees. A still is fetched for every timestep: unlike an endless MJPEG stream it holds no connection
// (a browser opens six for each host, over all its tabs) and it cannot freeze unnoticed.

import { snapshotUrl } from "./api.js";
import { drawing, element, setText } from "./dom.js";

const MOST_AT_ONCE = 2;
const LEAST_MS = 200; // between two stills of a camera
const CAPTION_MS = 8000;

let loading = 0;
let numbers = 0;

export class Preview {
  #camera;
  #image = element("img", { alt: "", hidden: true });
  #zones = drawing("svg", { viewBox: "0 0 1 1", preserveAspectRatio: "none", "aria-hidden": "true" });
  #labels = element("div", { className: "zone-names" });
  #waiting = element("p", { className: "faint", textContent: "No frame yet" });
  #caption = element("p", { className: "caption", hidden: true });
  #captionTimer = 0;
  #last = -LEAST_MS;
  #timer = 0;
  #busy = false;
  #due = false;
  #shown = false;
  #some = false;
  #drawn = "";

  constructor(camera) {
    this.#camera = camera;
    this.#image.alt = `What ${camera} sees`;
    this.box = element("div", { className: "preview" }, this.#waiting, this.#image, this.#zones, this.#labels, this.#caption);
    new IntersectionObserver((entries) => {
      this.#shown = entries[entries.length - 1].isIntersecting;
      if (this.#shown) this.refresh();
    }).observe(this.box);
  }

  /** There is a newer frame. */
  renew() {
    this.#some = true;
    this.refresh();
  }

  /** Show the newest frame, if there is one and somebody looks. */
  refresh() {
    if (!this.#some || !this.#shown || document.hidden) return;
    const early = this.#last + LEAST_MS - performance.now();
    if (this.#busy || loading >= MOST_AT_ONCE) {
      this.#due = true;
    } else if (early > 0) {
      clearTimeout(this.#timer);
      this.#timer = setTimeout(() => this.refresh(), early);
    } else {
      this.#load();
    }
  }

  /** Say over the picture what the model has said. */
  say(text) {
    setText(this.#caption, text);
    this.#caption.hidden = false;
    clearTimeout(this.#captionTimer);
    this.#captionTimer = setTimeout(() => { this.#caption.hidden = true; }, CAPTION_MS);
  }

  /** Width by height of what the model sees, and the zones in it. */
  frame({ live, aspect, zones, timesteps }) {
    this.#some ||= timesteps > 0;
    // The model's frame is a square with borders; of a live camera its real shape is cut out of that.
    this.box.style.aspectRatio = live && aspect ? String(aspect) : "1";
    this.#image.style.objectFit = live && aspect ? "cover" : "contain";
    const drawn = JSON.stringify(zones);
    if (!live || drawn === this.#drawn) return;
    this.#drawn = drawn;
    this.#zones.replaceChildren(...zones.map((zone) => drawing("polygon", {
      points: zone.polygon.map((corner) => corner.join(",")).join(" "), "vector-effect": "non-scaling-stroke",
    })));
    this.#labels.replaceChildren(...zones.map((zone) => {
      const label = element("span", { textContent: zone.name });
      const inside = (value) => `${100 * Math.min(0.95, Math.max(0, value))}%`;
      label.style.left = inside(Math.min(...zone.polygon.map(([x]) => x)));
      label.style.top = inside(Math.min(...zone.polygon.map(([, y]) => y)));
      return label;
    }));
  }

  #load() {
    this.#busy = true;
    this.#last = performance.now();
    this.#due = false;
    loading += 1;
    const next = new Image();
    next.src = snapshotUrl(this.#camera, ++numbers);
    next.decode().then(() => {
      next.alt = this.#image.alt;
      next.style.objectFit = this.#image.style.objectFit;
      this.#image.replaceWith(next);
      this.#image = next;
      this.#waiting.hidden = true;
    }).catch(() => {}).finally(() => {
      this.#busy = false;
      loading -= 1;
      if (this.#due) setTimeout(() => this.refresh(), 20);
    });
  }
}
