// Events and scores as they happen, over one WebSocket that is made anew whenever it ends.

import { call, LoginNeeded, socketUrl } from "./api.js";

const FIRST_WAIT_MS = 250;
const LONGEST_WAIT_MS = 4000;
const REMEMBERED = 20000;

/**
 * Follows from `start` on. `on.message(message)`: each event once, and every score. `on.open(cameras)`: connected,
 * also again; what was missed comes as messages. `on.state(text)`: connecting, live, or why not.
 * `on.login()`: a token is needed; call `start` again.
 */
export class Feed {
  #on;
  #socket = null;
  #last = null;
  #seen = new Set();
  #wait = FIRST_WAIT_MS;
  #timer = 0;

  constructor(on) {
    this.#on = on;
    addEventListener("online", () => this.start());
  }

  /** Connect now. */
  async start() {
    clearTimeout(this.#timer);
    this.end();
    let cameras;
    try {
      cameras = await call("GET", "/cameras"); // a WebSocket cannot tell why it was refused
    } catch (error) {
      if (error instanceof LoginNeeded) this.#on.login();
      else this.#again();
      return;
    }
    this.end(); // of two starts at once the later one counts
    const socket = new WebSocket(socketUrl(this.#last));
    this.#socket = socket;
    socket.addEventListener("open", () => {
      this.#wait = FIRST_WAIT_MS;
      this.#on.state("live");
      this.#on.open(cameras);
    });
    socket.addEventListener("message", ({ data }) => this.#receive(JSON.parse(data)));
    socket.addEventListener("close", () => { if (this.#socket === socket) this.#again(); });
  }

  /** End the connection, as one does that has stopped answering. */
  end() {
    const socket = this.#socket;
    this.#socket = null;
    socket?.close();
  }

  /** Connect again unless that is under way. */
  restart() {
    if (this.#socket !== null) this.start();
  }

  /** Whether the event with that id has not come yet; from now on it has. */
  isNew(id) {
    if (this.#seen.has(id)) return false;
    this.#seen.add(id);
    if (this.#seen.size > REMEMBERED) this.#seen.delete(this.#seen.values().next().value);
    return true;
  }

  #receive(message) {
    if (message.id !== undefined) {
      this.#last = message.id;
      if (!this.isNew(message.id)) return;
    }
    this.#on.message(message);
  }

  #again() {
    this.#socket = null;
    this.#on.state("reconnecting");
    this.#timer = setTimeout(() => this.start(), this.#wait * (0.75 + Math.random() / 2));
    this.#wait = Math.min(2 * this.#wait, LONGEST_WAIT_MS);
  }
}
