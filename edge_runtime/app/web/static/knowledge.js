// What the model knows: it says up front which questions work.

import { element, find } from "./dom.js";

/** `bundles`: as the server describes them. `onExample(text)`: somebody has chosen a question. */
export function showKnowledge(bundles, onExample) {
  find("knowledge").replaceChildren(...bundles.filter(({ domain }) => domain).map((bundle) => element("details", {},
    element("summary", {}, element("span", { textContent: `What ${bundle.name} knows: ${bundle.domain}` })),
    bundle.generated ? element("p", { className: "note", textContent: "It was trained on generated clips alone. On other video its responses mean nothing." }) : null,
    ...section("It recognises", bundle.classes.length ? [element("p", { textContent: bundle.classes.join(", ") })] : []),
    ...section("Questions that work", bundle.examples.map((text) => element("button", {
      type: "button", className: "quiet", textContent: text, on: { click: () => onExample(text) },
    }))),
    ...section("Questions that do not", bundle.not_examples.map((text) => element("p", { className: "faint", textContent: text }))),
  )));
}

const section = (title, items) => (items.length ? [element("h3", { textContent: title }), ...items] : []);
