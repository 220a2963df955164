// Cameras are added and removed here where the server allows it.

import { call, cameraPath } from "./api.js";
import { element, find, setText } from "./dom.js";

const SURE_MS = 5000;

let allowed = false;

/** Ask the server whether it allows changes, and offer them or not. */
export async function offerChanges() {
  allowed = (await call("GET", "/run")).allow_add_cameras;
  find("add-camera").hidden = !allowed;
  document.body.classList.toggle("fixed", !allowed);
}

/** The dialog that adds a camera. `onDone(camera)`: it is being watched. */
export function prepareDialog(onDone) {
  const dialog = find("new-camera");
  const form = dialog.querySelector("form");
  const error = dialog.querySelector(".error");
  find("add-camera").addEventListener("click", () => { error.hidden = true; dialog.showModal(); });
  find("no-camera").addEventListener("click", () => { form.reset(); dialog.close(); });
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const body = { name: find("new-name").value.trim(), source: find("new-source").value.trim() };
    if (find("new-user").value) body.user = find("new-user").value;
    if (find("new-password").value) body.password = find("new-password").value;
    const button = form.querySelector("button[type=submit]");
    button.disabled = true;
    try {
      const camera = await call("POST", "/cameras", body);
      form.reset(); // the page keeps no password
      dialog.close();
      onDone(camera);
    } catch (failure) {
      setText(error, `Not added: ${failure.message}`);
      error.hidden = false;
    } finally {
      button.disabled = false;
    }
  });
}

/** A button that removes a camera when it is pressed twice. `onDone(error)`: null when it is gone. */
export function removeButton(name, onDone) {
  let timer = 0;
  let sure = false;
  const button = element("button", { type: "button", className: "quiet remove", textContent: "Remove", "aria-label": `Remove ${name}` });
  const set = (isSure) => {
    sure = isSure;
    setText(button, sure ? "Press again to remove" : "Remove");
    button.setAttribute("aria-label", sure ? `Press again to remove ${name}` : `Remove ${name}`);
  };
  button.addEventListener("click", async () => {
    clearTimeout(timer);
    if (!sure) {
      set(true);
      timer = setTimeout(() => set(false), SURE_MS);
      return;
    }
    set(false);
    try {
      await call("DELETE", cameraPath(name));
      onDone(null);
    } catch (error) {
      onDone(error);
    }
  });
  return button;
}
