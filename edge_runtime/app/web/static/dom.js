// Elements without innerHTML: texts of events and questions only ever become text nodes.

/**
 * Make an element. `properties`: of the element; a key with a dash or `role` is an attribute, `on` holds
 * listeners. `children`: elements and texts; null is left out.
 */
export function element(tag, properties = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name === "on") {
      for (const [type, listener] of Object.entries(value)) made.addEventListener(type, listener);
    } else if (name.includes("-") || name === "role") {
      made.setAttribute(name, value);
    } else {
      made[name] = value;
    }
  }
  made.append(...children.filter((child) => child !== null));
  return made;
}

const SVG = "http://www.w3.org/2000/svg";

/** The same of an SVG element, whose properties are all attributes. */
export function drawing(tag, attributes = {}, ...children) {
  const made = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

/** Set a text only where it differs, so that a selection in it survives. */
export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

export const find = (id) => document.getElementById(id);

let toastTimer = 0;

/** Show a line for some seconds, with a button if `action` is given. */
export function toast(text, label = "", action = null) {
  const box = find("toast");
  const close = () => { box.hidden = true; };
  const button = action && element("button", {
    type: "button", textContent: label, on: { click: () => { close(); action(); } },
  });
  box.replaceChildren(element("span", { textContent: text }), ...(button ? [button] : []));
  box.hidden = false;
  clearTimeout(toastTimer);
  toastTimer = setTimeout(close, 8000);
}
