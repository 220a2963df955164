// Snapshot and clip of a response. Files appear some seconds after their event, so both are asked for again.

import { evidenceUrl } from "./api.js";
import { element, setText } from "./dom.js";

const PATIENCE_S = 90;
const BEFORE_S = 2;

const pause = (ms) => new Promise((done) => setTimeout(done, ms));

/** How long to go on asking for a file of this event, in milliseconds of the clock. */
const deadline = (event) => {
  const begun = event.wall_time ? Date.parse(event.wall_time) : Date.now();
  return Math.min(Date.now(), begun) + PATIENCE_S * 1000;
};

/** The snapshot as a small picture; nothing where there is none. */
export function thumbnail(event) {
  const box = element("div", { className: "thumb" });
  if (!event.evidence?.snapshot) return box;
  box.classList.add("filled");
  const until = deadline(event);
  const load = async () => {
    for (let wait = 500; ; wait = Math.min(2 * wait, 8000)) {
      const image = new Image();
      image.alt = `The frame of: ${event.text}`;
      image.src = evidenceUrl(event.id, "snapshot.jpg");
      try {
        await image.decode();
        const link = element("a", { href: image.src, target: "_blank", rel: "noopener" }, image);
        box.replaceChildren(link);
        return;
      } catch {
        if (Date.now() > until) return box.classList.remove("filled");
        await pause(wait);
      }
    }
  };
  const observer = new IntersectionObserver((entries) => {
    if (!entries.some((entry) => entry.isIntersecting)) return;
    observer.disconnect();
    load();
  });
  observer.observe(box);
  return box;
}

/** A button that shows the clip below `parent` and plays it; null where there is none. */
export function clipButton(event, parent) {
  if (!event.evidence?.clip) return null;
  const button = element("button", { type: "button", textContent: "Play clip", "aria-expanded": "false" });
  let shown = null;
  const close = () => {
    shown?.remove();
    shown = null;
    setText(button, "Play clip");
    button.setAttribute("aria-expanded", "false");
  };
  button.addEventListener("click", async () => {
    if (shown !== null) return close();
    const box = element("div", { className: "clip" }, element("p", { className: "faint", textContent: "The clip is still being recorded …" }));
    shown = box;
    parent.append(box);
    setText(button, "Close clip");
    button.setAttribute("aria-expanded", "true");
    const url = evidenceUrl(event.id, "clip.mp4");
    const until = deadline(event);
    while (!(await exists(url))) {
      if (shown !== box) return;
      if (Date.now() > until) {
        box.replaceChildren(element("p", { className: "faint", textContent: "There is no clip any more, or it could not be written." }));
        return;
      }
      await pause(1000);
    }
    if (shown === box) box.replaceChildren(video(url, event.evidence.clip_at));
  });
  return button;
}

function video(url, at) {
  const player = element("video", { src: url, controls: true, muted: true, playsInline: true, preload: "metadata" });
  player.addEventListener("loadedmetadata", () => {
    if (Number.isFinite(at)) player.currentTime = Math.max(0, at - BEFORE_S);
    player.play().catch(() => {}); // a browser that forbids it shows its own button
  }, { once: true });
  return player;
}

async function exists(url) {
  try {
    const answer = await fetch(url, { headers: { Range: "bytes=0-0" } });
    return answer.ok;
  } catch {
    return false;
  }
}
