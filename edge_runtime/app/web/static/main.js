// The page: connects, and hands on what comes to cameras and responses.

import { call, LoginNeeded } from "./api.js";
import { CameraCard } from "./camera.js";
import { offerChanges, prepareDialog } from "./changes.js";
import { find, setText } from "./dom.js";
import { Feed } from "./feed.js";
import { showKnowledge } from "./knowledge.js";
import { Login } from "./login.js";
import { ResponseList } from "./responses.js";

const LOOK_AGAIN_MS = 4000;
const PAST = 100;

const cards = new Map(); // by the camera's name
const responses = new ResponseList();
let soon = null;
const login = new Login(() => feed.start());
const feed = new Feed({
  message: receive,
  open: opened,
  state: showConnection,
  login: () => { showConnection("log in"); login.show(); },
});

function receive(message) {
  const card = cards.get(message.stream);
  if (!card && message.stream && message.type !== "response") lookSoon(); // added by somebody else
  if (message.type === "score") {
    card?.addScores(message);
  } else if (message.type === "response") {
    showResponse(message, true);
  } else if (message.type === "stream") {
    card?.setState(message.state, message.cause);
    lookSoon(); // its size and decoder may have changed
  } else if (message.type === "query") {
    attempt(card?.refresh());
  } else if (message.type === "gap") {
    notice("Some events of the time without connection are not kept any more.");
  }
}

function showResponse(event, fresh) {
  responses.add(event);
  cards.get(event.stream)?.addResponse(event, fresh);
  if (fresh) setText(find("spoken"), event.text);
}

/** After every connection: what is there now, and the responses before it. */
async function opened(cameras) {
  showCameras(cameras);
  for (const card of cards.values()) attempt(card.refresh({ scores: true }));
  await attempt(offerChanges());
  await attempt(call("GET", `/events?type=response&limit=${PAST}`).then(({ events }) => {
    for (const event of events) if (feed.isNew(event.id)) showResponse(event, false);
  }));
  await attempt(call("GET", "/bundles").then((bundles) => showKnowledge(bundles, suggest)));
}

function showCameras(cameras) {
  const names = cameras.map(({ name }) => name);
  let changed = false;
  for (const [name, card] of cards) {
    if (!names.includes(name)) {
      card.box.remove();
      cards.delete(name);
      changed = true;
    }
  }
  for (const view of cameras) {
    if (cards.has(view.name)) {
      cards.get(view.name).update(view);
    } else {
      const card = new CameraCard(view, lookAgain);
      cards.set(view.name, card);
      find("cameras").append(card.box);
      changed = true;
    }
  }
  find("none").hidden = names.length > 0;
  if (changed) responses.cameras(names);
  document.body.classList.toggle("several", names.length > 1);
  document.title = names.length === 1 ? `${names[0]} · StreamPro Edge` : "StreamPro Edge";
}

/** Latencies, drops, and what others have changed. A server that does not answer is one to connect to anew. */
async function lookAgain() {
  if (document.hidden || find("connection").textContent !== "live") return;
  try {
    showCameras(await call("GET", "/cameras"));
    await Promise.all([...cards.values()].map((card) => card.refresh()));
  } catch {
    feed.restart();
  }
}

/** At most once a second: many events may come of a camera that is not shown yet. */
function lookSoon() {
  soon ??= setTimeout(() => { soon = null; lookAgain(); }, 1000);
}

async function attempt(promise) {
  try {
    await promise;
  } catch (error) {
    if (error instanceof LoginNeeded) login.show();
    else notice(error.message);
  }
}

function suggest(text) {
  cards.values().next().value?.suggest(text);
}

function showConnection(state) {
  const pill = find("connection");
  setText(pill, state);
  pill.className = `pill ${state === "live" ? "good" : "busy"}`;
  if (state === "live") notice("");
  document.body.classList.toggle("apart", state === "reconnecting");
}

function notice(text) {
  setText(find("notice"), text);
  find("notice").hidden = text === "";
}

prepareDialog(lookAgain);
setInterval(lookAgain, LOOK_AGAIN_MS);
document.addEventListener("visibilitychange", lookAgain);
feed.start();
