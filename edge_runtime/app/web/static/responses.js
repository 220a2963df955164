// The list of responses, the newest first.

import { clipButton, thumbnail } from "./evidence.js";
import { element, find, toast } from "./dom.js";
import { milliseconds, moment, place, score } from "./format.js";

const MOST = 200;

export class ResponseList {
  #list = find("list");
  #which = find("which");
  #shown = []; // { event, item }, the newest first

  constructor() {
    this.#which.addEventListener("change", () => this.#filter());
  }

  /** The cameras of the run. */
  cameras(names) {
    const chosen = this.#which.value;
    this.#which.replaceChildren(
      element("option", { value: "", textContent: "All cameras" }),
      ...names.map((name) => element("option", { value: name, textContent: name })),
    );
    this.#which.value = names.includes(chosen) ? chosen : "";
    this.#which.hidden = names.length < 2;
    this.#filter();
  }

  add(event) {
    const entry = { event, item: response(event), at: place(event) };
    const older = this.#shown.findIndex(({ at }) => at <= entry.at);
    const index = older < 0 ? this.#shown.length : older;
    this.#list.insertBefore(entry.item, this.#shown[index]?.item ?? null);
    this.#shown.splice(index, 0, entry);
    for (const { item } of this.#shown.splice(MOST)) item.remove();
    this.#filter();
  }

  #filter() {
    let visible = 0;
    for (const { event, item } of this.#shown) {
      item.hidden = this.#which.value !== "" && event.stream !== this.#which.value;
      visible += item.hidden ? 0 : 1;
    }
    find("nothing").hidden = visible > 0;
    find("hint").hidden = this.#shown.length === 0 || this.#shown.some(({ event }) => event.evidence);
  }
}

function response(event) {
  const body = element("div", { className: "body" });
  const time = element("time", { textContent: moment(event), title: event.wall_time ?? "" });
  const latency = event.latency_ms ? ` · ${milliseconds(event.latency_ms.decision)}` : "";
  const copy = element("button", { type: "button", className: "quiet", textContent: "Copy JSON", on: { click: () => copyText(JSON.stringify(event)) } });
  const item = element("li", { className: "response" }, thumbnail(event), body);
  item.dataset.id = event.id;
  const clip = clipButton(event, item);
  body.append(
    element("p", { className: "said", textContent: event.text }),
    element("p", { className: "faint" }, time,
      element("span", { className: "of", textContent: ` · ${event.stream}` }), ` · score\u00a0${score(event.score)}${latency}`),
    element("p", { className: "faint asked", textContent: event.question }),
    element("div", { className: "line" }, ...(clip ? [clip] : []), copy),
  );
  return item;
}

async function copyText(text) {
  let copied = false;
  try {
    await navigator.clipboard.writeText(text);
    copied = true;
  } catch {
    copied = copyOldWay(text); // without HTTPS there is no clipboard but on this machine
  }
  toast(copied ? "Copied" : "This browser does not let a page copy");
}

function copyOldWay(text) {
  const area = element("textarea", { value: text, className: "hidden-text" });
  document.body.append(area);
  area.select();
  const copied = document.execCommand("copy");
  area.remove();
  return copied;
}
