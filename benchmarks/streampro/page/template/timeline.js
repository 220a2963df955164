// The timeline of one question. Times are shares of the width, so that it fits any screen without redrawing.

const LANE = 16; // height of a row of true answers
const SAID = 28; // height of the row of responses
const SCORE = 30; // height of the row of scores
const HEAD = 14;
const AXIS = 18;
const GAP = 5;

/** Rows for the true answers such that no two in one row overlap; the row of each. */
function lanes(answers) {
  const ends = [];
  const rows = new Array(answers.length);
  const order = answers.map((_, i) => i).sort((a, b) => reach(answers[a])[0] - reach(answers[b])[0]);
  for (const i of order) {
    const [from, to] = reach(answers[i]);
    let row = ends.findIndex((end) => end <= from);
    if (row < 0) row = ends.length;
    ends[row] = to;
    rows[i] = row;
  }
  return { rows, count: Math.max(1, ends.length) };
}

function reach(answer) {
  return [Math.min(answer.start, answer.window[0]), Math.max(answer.end, answer.window[1])];
}

function timelineHeight(question) {
  return HEAD + lanes(question.answers).count * LANE + GAP + SAID + (question.scores ? SCORE + GAP : 0) + AXIS;
}

/** A mark for what became of a response, centred on 0, 0; each has a shape and a colour of its own. */
function verdictMark(verdict) {
  const shapes = {
    right: [s("circle", { r: 6, class: "full" })],
    partial: [s("circle", { r: 6, class: "empty" }), s("path", { d: "M0-6A6 6 0 0 1 0 6Z", class: "full" })],
    wrong: [s("path", { d: "M0-7.5 7.5 0 0 7.5-7.5 0Z", class: "full" })],
    surplus: [s("circle", { r: 5, class: "empty" })],
    outside: [s("path", { d: "M-5-5 5 5M5-5-5 5", class: "stroke" })],
  };
  return s("g", { class: `mark ${verdict}` }, shapes[verdict]);
}

function drawTimeline(question) {
  const { rows, count: laneCount } = lanes(question.answers);
  const laneTop = HEAD;
  const saidTop = laneTop + laneCount * LANE + GAP;
  const scoreTop = saidTop + SAID + GAP;
  const axisTop = question.scores ? scoreTop + SCORE : saidTop + SAID;
  const height = axisTop + AXIS;
  const last = Math.max(question.duration, ...question.responses.map((r) => r.time), ...question.answers.map((a) => a.end));
  const at = (time) => `${((100 * Math.min(Math.max(time, 0), last)) / last).toFixed(3)}%`;
  const wide = (from, to) => `${((100 * Math.max(0, Math.min(to, last) - Math.max(from, 0))) / last).toFixed(3)}%`;
  const root = s("svg", { class: "timeline", height, role: "img", "aria-label": describe(question) });
  const back = s("g", { class: "back" });
  root.append(back);

  back.append(s("rect", { class: "unasked", x: 0, y: HEAD, width: at(question.asked), height: axisTop - HEAD }));
  const step = niceStep(last, 9);
  for (let time = 0; time <= last + 1e-9; time += step) {
    const near = time / last;
    back.append(
      s("line", { class: "tick", x1: at(time), x2: at(time), y1: HEAD, y2: axisTop }),
      s("text", { class: "time", x: at(time), y: axisTop + 13, "text-anchor": near < 0.01 ? "start" : near > 0.97 ? "end" : "middle" }, `${seconds(time)} s`),
    );
  }
  if (last > question.duration) back.append(s("line", { class: "end", x1: at(question.duration), x2: at(question.duration), y1: HEAD, y2: axisTop }));
  const late = question.asked > 0.8 * last;
  back.append(
    s("line", { class: "asked", x1: at(question.asked), x2: at(question.asked), y1: 2, y2: axisTop }),
    s("svg", { x: at(question.asked), y: 0, overflow: "visible" }, s("text", { class: "asked-label", x: late ? -4 : 4, y: 10, "text-anchor": late ? "end" : "start" }, `asked at ${seconds(question.asked)} s`)),
  );

  question.answers.forEach((answer, i) => root.append(drawAnswer(question, i, laneTop + rows[i] * LANE, at, wide)));
  if (question.scores) root.append(drawScores(question, scoreTop, last, at));
  question.responses.forEach((response, i) => {
    const up = response.answer === null ? null : laneTop + rows[response.answer] * LANE + LANE - 4;
    const mark = s("svg", { x: at(response.time), y: saidTop + SAID / 2, overflow: "visible" });
    if (up !== null) {
      const to = up - (saidTop + SAID / 2);
      mark.append(s("g", { class: `stem ${response.verdict}` }, s("line", { x1: 0, x2: 0, y1: to, y2: 0 }), s("circle", { cy: to, r: 2.5 })));
    }
    mark.append(s("circle", { r: 12, class: "hit" }), verdictMark(response.verdict));
    root.append(tip(mark, responseText(question, i)));
  });

  const names = h("div", { class: "lane-names", "aria-hidden": "true" });
  for (const [text, top, tall] of [["true", laneTop, laneCount * LANE], ["said", saidTop, SAID], ["score", scoreTop, SCORE]]) {
    if (text === "score" && !question.scores) continue;
    const name = h("span", {}, text);
    name.style.top = `${top + tall / 2 - 8}px`;
    names.append(name);
  }
  return h("div", { class: "timeline-box" }, names, root);
}

/** Window, event and best time of a true answer; one that nobody gave is drawn hollow. */
function drawAnswer(question, i, top, at, wide) {
  const answer = question.answers[i];
  const state = answerState(answer);
  const interval = DATA.tasks[question.task].interval;
  const [from, to] = answer.window;
  const group = s(
    "g",
    { class: `answer ${state}` },
    s("rect", { class: "window", x: at(from), y: top + 1, width: wide(from, to), height: LANE - 3, rx: 2 }),
    s("rect", { class: interval ? "event best" : "event", x: at(answer.start), y: top + 4, width: wide(answer.start, answer.end), height: LANE - 9, rx: 2 }),
  );
  if (!interval) {
    group.append(s("svg", { x: at(answer.best[0]), y: top, overflow: "visible" }, s("path", { class: "moment", d: `M-4 0H4L1 5V${LANE - 1}H-1V5Z` })));
  }
  return tip(group, answerText(question, i));
}

/** The probability of speaking of each timestep, as steps that end at its time. */
function drawScores(question, top, last, at) {
  const [times, values] = question.scores;
  const gaps = times.slice(1).map((time, i) => time - times[i]);
  const step = Math.min(...gaps, times[0] > 0 ? times[0] : Infinity, last);
  let line = "";
  let area = "";
  times.forEach((time, i) => {
    const from = Math.max(0, i && gaps[i - 1] < 1.5 * step ? times[i - 1] : time - step).toFixed(2);
    const level = (1 - values[i]).toFixed(3);
    line += i && gaps[i - 1] < 1.5 * step ? `V${level}H${time.toFixed(2)}` : `M${from} ${level}H${time.toFixed(2)}`;
    area += `M${from} 1V${level}H${time.toFixed(2)}V1Z`;
  });
  const group = s("g", { class: "scores" });
  const inner = s("svg", { x: 0, y: top, width: "100%", height: SCORE, viewBox: `0 0 ${last} 1`, preserveAspectRatio: "none", overflow: "visible" });
  inner.append(s("path", { class: "area", d: area }), s("path", { class: "line", d: line }));
  group.append(s("line", { class: "base", x1: 0, x2: "100%", y1: top + SCORE, y2: top + SCORE }), inner);
  if (DATA.threshold !== null) {
    const level = top + SCORE * (1 - DATA.threshold);
    group.append(s("line", { class: "threshold", x1: at(question.asked), x2: "100%", y1: level, y2: level }));
  }
  return group;
}

function answerState(answer) {
  if (!answer.match) return "missed";
  return answer.match.time_score * answer.match.accuracy > 0 ? "answered" : "failed";
}

function describe(question) {
  const missed = question.answers.filter((answer) => answerState(answer) !== "answered").length;
  return `Timeline of ${seconds(question.duration)} s: ${count(question.answers.length, "true answer")}, ${missed} without a right response; ${count(question.responses.length, "response")}`;
}

function worth({ time_score: time, accuracy }) {
  return `${points(time * accuracy)} points = time ${points(time)} % \u00d7 words ${points(accuracy)} %`;
}

function span([from, to]) {
  return from === to ? `${seconds(from)} s` : `${seconds(from)} to ${seconds(to)} s`;
}

function quote(text) {
  return text.trim() ? `\u201c${text}\u201d` : "(no words)";
}

function answerOutcome(question, answer) {
  if (!answer.match) return "missed: no response went to it";
  const said = `at ${seconds(question.responses[answer.match.response].time)} s`;
  return answer.match.time_score * answer.match.accuracy > 0 ? `answered ${said}: ${worth(answer.match)}` : `wrong words ${said}`;
}

function answerText(question, i) {
  const answer = question.answers[i];
  return [
    `True answer ${i + 1}: ${quote(answer.text)}`,
    `event ${span([answer.start, answer.end])}, best time ${span(answer.best)}`,
    `matching window ${span(answer.window)}`,
    answerOutcome(question, answer),
  ].join("\n");
}

function responseOutcome(question, i) {
  const response = question.responses[i];
  const about = DATA.verdicts[response.verdict];
  if (response.answer === null) return about;
  const match = question.answers[response.answer].match;
  const kept = match && match.response === i;
  return `${about.split(":")[0]}, answer ${response.answer + 1}${kept ? `: ${worth(match)}` : " kept another response"}`;
}

function offsetText(response) {
  if (response.offset === null) return "";
  if (response.offset === 0) return "at the best time";
  const which = response.answer === null ? "nearest best time" : "best time";
  return `${seconds(Math.abs(response.offset))} s ${response.offset < 0 ? "before" : "after"} the ${which}`;
}

function responseText(question, i) {
  const response = question.responses[i];
  const score = response.score === null ? "" : `score ${response.score}`;
  const when = [`${seconds(response.time)} s`, offsetText(response), score].filter(Boolean).join(", ");
  return [`Said ${quote(response.text)}`, when, responseOutcome(question, i)].join("\n");
}
