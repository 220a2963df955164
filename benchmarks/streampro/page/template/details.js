// One question of the list: its head, its timeline, and the same in words.

function drawCard(question, open) {
  const missed = question.answers.filter((answer) => answerState(answer) === "missed").length;
  const about = [
    `${seconds(question.duration)} s`,
    count(question.answers.length, "true answer"),
    count(question.responses.length, "response"),
    missed ? `${missed} missed` : null,
    question.missing ? "no prediction line" : null,
  ];
  const words = h("details", {}, h("summary", {}, "In words"));
  const fillWords = () => {
    if (words.childElementCount === 1) words.append(drawWords(question));
  };
  words.addEventListener("toggle", fillWords);
  words.open = open;
  if (open) fillWords();
  const task = DATA.tasks[question.task];
  return [
    h(
      "div",
      { class: "card-head" },
      h("span", { class: "chip", title: task.name }, question.task),
      h("div", { class: "card-title" }, h("h3", {}, question.query), h("p", { class: "about" }, h("code", {}, question.id), ` \u00b7 ${about.filter(Boolean).join(" \u00b7 ")}`)),
      h("div", { class: "card-score" }, h("strong", {}, `F1 ${points(question.f1)}`), h("span", {}, `precision ${points(question.precision)} \u00b7 recall ${points(question.recall)}`)),
    ),
    drawTimeline(question),
    words,
  ];
}

function drawWords(question) {
  const answers = question.answers.map((answer, i) => [
    String(i + 1), quote(answer.text), span([answer.start, answer.end]), span(answer.best), span(answer.window), answerOutcome(question, answer),
  ]);
  const responses = question.responses.map((response, i) => [
    `${seconds(response.time)} s`, quote(response.text), offsetText(response), response.score === null ? "-" : String(response.score), responseOutcome(question, i),
  ]);
  const all = (columns) => columns;
  const truthColumns = ["", "true answer", "event", "best time", "window", "outcome"];
  const saidColumns = ["time", "response", "when", "score", "outcome"];
  return h(
    "div",
    { class: "words" },
    answers.length ? h("div", { class: "scroll" }, table("True answers", truthColumns, answers, all(truthColumns))) : h("p", {}, "No true answer."),
    responses.length ? h("div", { class: "scroll" }, table("Responses", saidColumns, responses, all(saidColumns))) : h("p", {}, "The model said nothing."),
  );
}

function drawLegend() {
  const mark = (drawing, text) => h("span", {}, s("svg", { width: 22, height: 18, viewBox: "-11 -9 22 18", "aria-hidden": "true" }, drawing), text);
  const bar = (state, parts) => s("g", { class: `answer ${state}` }, parts);
  const event = (best) => s("rect", { class: best ? "event best" : "event", x: -8, y: -4, width: 16, height: 8, rx: 2 });
  const hasScores = DATA.questions.some((question) => question.scores);
  const row = (name, ...parts) => [h("b", {}, name), h("p", { class: "key" }, parts)];
  byId("legend").append(
    ...row(
      "true",
      mark(bar("answered", [s("rect", { class: "window", x: -10, y: -7, width: 20, height: 14, rx: 2 })]), "matching window"),
      mark(bar("answered", [event(false)]), "event"),
      mark(bar("answered", [s("path", { class: "moment", d: "M-4-7H4L1-2V8H-1V-2Z" })]), "best time"),
      mark(bar("answered", [event(true)]), "best time is the whole event (EU, TP)"),
      mark(bar("missed", [event(false)]), "missed, or answered with wrong words"),
    ),
    ...row("said", ...Object.entries(DATA.verdicts).map(([name, text]) => mark(verdictMark(name), text))),
    ...(hasScores ? row("score", `probability of speaking at each timestep${DATA.threshold === null ? "" : `; it speaks from the dashed line (${seconds(DATA.threshold)})`}`) : []),
  );
}
