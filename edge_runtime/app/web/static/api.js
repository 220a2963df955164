// The calls of the server.

const ROOT = "/api/v1";
const TIMEOUT_MS = 10000;

/** The server wants a token. */
export class LoginNeeded extends Error {}

/** What the server has refused, in its words. */
export class Refused extends Error {
  constructor(status, detail) {
    super(detail);
    this.status = status;
  }
}

/** Call and return the answer, null for an empty one. Throws LoginNeeded, Refused, or Error without network. */
export async function call(method, path, body = undefined) {
  let answer;
  try {
    answer = await fetch(ROOT + path, {
      method,
      headers: body === undefined ? {} : { "Content-Type": "application/json" },
      body: body === undefined ? undefined : JSON.stringify(body),
      signal: AbortSignal.timeout(TIMEOUT_MS),
    });
  } catch {
    throw new Error("edge-run does not answer");
  }
  if (answer.ok) return answer.status === 204 ? null : answer.json();
  const detail = (await answer.json().catch(() => ({}))).detail ?? `error ${answer.status}`;
  if (answer.status === 401 && path !== "/login") throw new LoginNeeded(detail);
  throw new Refused(answer.status, detail);
}

/** The path of a camera's calls; its name may hold slashes and colons. */
export const cameraPath = (name) => `/cameras/${encodeURIComponent(name)}`;

export const snapshotUrl = (name, number) => `${ROOT}${cameraPath(name)}/snapshot.jpg?n=${number}`;

export const evidenceUrl = (id, file) => `${ROOT}/events/${encodeURIComponent(id)}/${file}`;

/** The address of the WebSocket; `since`: the last id that is known, or null. */
export const socketUrl = (since) => {
  const scheme = location.protocol === "https:" ? "wss:" : "ws:";
  return `${scheme}//${location.host}${ROOT}/ws${since ? `?since=${encodeURIComponent(since)}` : ""}`;
};
