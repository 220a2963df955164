// Numbers and times as people read them.

export const score = (value) => (value === null || value === undefined ? "–" : value.toFixed(2));

export const milliseconds = (value) => {
  if (value === null) return "–";
  return value < 1000 ? `${value < 10 ? value.toFixed(1) : Math.round(value)}\u00a0ms` : `${(value / 1000).toFixed(1)}\u00a0s`;
};

/** Seconds of a stream as 1:02. */
export const clock = (seconds) => {
  const whole = Math.max(0, Math.floor(seconds));
  const rest = String(whole % 60).padStart(2, "0");
  const minutes = Math.floor(whole / 60);
  return minutes < 60 ? `${minutes}:${rest}` : `${Math.floor(minutes / 60)}:${String(minutes % 60).padStart(2, "0")}:${rest}`;
};

/** When an event was: the time of day, with its date unless it was today; of a recording its own time. */
export const moment = (event) => {
  if (!event.wall_time) return clock(event.time);
  const when = new Date(event.wall_time);
  const today = when.toDateString() === new Date().toDateString();
  return today ? when.toLocaleTimeString() : when.toLocaleString();
};

/** A place on the time line in seconds: the wall clock for a live camera, else the time of the recording. */
export const place = (event) => (event.wall_time ? Date.parse(event.wall_time) / 1000 : event.time);
