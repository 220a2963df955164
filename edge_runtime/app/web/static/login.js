// The log-in: the token is posted once and a cookie comes back; the page keeps no token.

import { call } from "./api.js";
import { find, setText } from "./dom.js";

const LOGGED_IN = "edge-run logged in";

/** `onDone()`: logged in. */
export class Login {
  #dialog = find("login");
  #error = this.#dialog.querySelector(".error");

  constructor(onDone) {
    const form = this.#dialog.querySelector("form");
    this.#dialog.addEventListener("cancel", (event) => event.preventDefault());
    form.addEventListener("submit", async (event) => {
      event.preventDefault();
      try {
        await call("POST", "/login", { token: find("token").value.trim() });
      } catch (error) {
        setText(this.#error, `Not logged in: ${error.message}`);
        this.#error.hidden = false;
        return;
      }
      this.#error.hidden = true;
      form.reset();
      localStorage.setItem(LOGGED_IN, "yes");
      this.#dialog.close();
      this.#offerLogout();
      onDone();
    });
    find("logout").addEventListener("click", async () => {
      await call("POST", "/logout").catch(() => {});
      localStorage.removeItem(LOGGED_IN);
      location.reload();
    });
    this.#offerLogout();
  }

  /** Ask for the token, unless that is being done. */
  show() {
    if (!this.#dialog.open) this.#dialog.showModal();
  }

  #offerLogout() {
    find("logout").hidden = localStorage.getItem(LOGGED_IN) === null;
  }
}
