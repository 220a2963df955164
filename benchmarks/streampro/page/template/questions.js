// The list of questions: filters, order, and drawing a card only when it comes near the screen.

const CARD_REST = 104; // height of a card without its timeline, until it is drawn

const OUTCOMES = {
  any: ["any verdict", () => true],
  right: ["a right response", (q) => q.responses.some((response) => response.verdict === "right")],
  partial: ["a partly right one", (q) => q.responses.some((response) => response.verdict === "partial")],
  missed: ["a missed answer", (q) => q.answers.some((answer) => answerState(answer) === "missed")],
  wrong: ["wrong words", (q) => q.responses.some((response) => response.verdict === "wrong")],
  surplus: ["a surplus response", (q) => q.responses.some((response) => response.verdict === "surplus")],
  outside: ["said outside windows", (q) => q.responses.some((response) => response.verdict === "outside")],
  silent: ["nothing said", (q) => q.responses.length === 0],
  missing: ["no prediction", (q) => q.missing],
};

const ORDERS = {
  file: ["file order", null],
  worst: ["worst F1 first", (a, b) => a.f1 - b.f1],
  best: ["best F1 first", (a, b) => b.f1 - a.f1],
  talkative: ["most said first", (a, b) => b.responses.length - a.responses.length],
};

const DEFAULTS = { task: "all", outcome: "any", order: "file", search: "", failures: false, words: false };

function startQuestions() {
  const list = byId("list");
  const form = byId("controls");
  const choice = (name, label, options) => h("label", {}, label, h("select", { name }, options));
  const option = ([value, text]) => h("option", { value }, text);
  const named = (table) => Object.entries(table).map(([value, [text]]) => option([value, text]));
  const shown = h("output", { id: "shown", "aria-live": "polite" });
  form.append(
    choice("task", "Task", taskOptions(option)),
    choice("outcome", "Verdict", named(OUTCOMES)),
    choice("order", "Order", named(ORDERS)),
    h("label", { class: "wide" }, "Search", h("input", { type: "search", name: "search", placeholder: "id, question, answer, response", "aria-keyshortcuts": "/" })),
    h("label", { class: "check" }, h("input", { type: "checkbox", name: "failures" }), "Only failures"),
    h("label", { class: "check" }, h("input", { type: "checkbox", name: "words" }), "Show words"),
    shown,
    h("button", { type: "reset" }, "Clear"),
  );

  const entries = DATA.questions.map((question) => {
    const element = h("li", { class: "card", tabindex: -1 });
    element.style.minHeight = `${CARD_REST + timelineHeight(question)}px`;
    return { question, element, drawn: false, text: null };
  });
  const byElement = new Map(entries.map((entry) => [entry.element, entry]));
  const draw = (entry) => {
    if (entry.drawn) return;
    entry.drawn = true;
    entry.element.append(...drawCard(entry.question, form.elements.words.checked));
    entry.element.style.minHeight = "";
  };
  const observer = new IntersectionObserver(
    (seen) => {
      for (const each of seen) {
        if (!each.isIntersecting) continue;
        observer.unobserve(each.target);
        draw(byElement.get(each.target));
      }
    },
    { rootMargin: "800px 0px" },
  );
  for (const entry of entries) observer.observe(entry.element);
  window.addEventListener("beforeprint", () => entries.forEach((entry) => entry.element.isConnected && draw(entry)));

  let wordsOpen = false;
  const apply = () => {
    const state = readForm(form);
    if (state.words !== wordsOpen) {
      wordsOpen = state.words;
      for (const { element, drawn } of entries) if (drawn) element.querySelector("details").open = wordsOpen;
    }
    const words = state.search.toLowerCase().split(/\s+/).filter(Boolean);
    let chosen = entries.filter((entry) => matches(entry, state, words));
    const order = ORDERS[state.order][1];
    if (order) chosen = chosen.slice().sort((a, b) => order(a.question, b.question));
    shown.textContent = `${chosen.length.toLocaleString("en")} of ${entries.length.toLocaleString("en")} shown`;
    list.replaceChildren(...chosen.map((entry) => entry.element));
    if (!chosen.length) list.append(h("li", { class: "nothing" }, "No question fits these choices."));
    writeHash(state);
  };
  let waiting = 0;
  form.addEventListener("input", (event) => {
    window.clearTimeout(waiting);
    waiting = window.setTimeout(apply, event.target.name === "search" ? 150 : 0);
  });
  form.addEventListener("reset", () => window.setTimeout(apply, 0));
  form.addEventListener("submit", (event) => event.preventDefault());
  document.addEventListener("keydown", (event) => {
    const typing = event.target.matches?.("input, select, textarea");
    if (event.key !== "/" || typing || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    form.elements.search.focus();
  });
  readHash(form);
  apply();
}

function taskOptions(option) {
  const codes = Object.keys(DATA.tasks);
  const groups = [...Object.keys(DATA.dimensions), null].map((dimension) => {
    const members = codes.filter((code) => DATA.tasks[code].dimension === dimension);
    if (!members.length) return null;
    const all = dimension && members.length > 1 ? [option([dimension, `${dimension}: all of them`])] : [];
    const label = dimension ? `${dimension} ${DATA.dimensions[dimension]}` : "training only";
    return h("optgroup", { label }, all, members.map((code) => option([code, `${code} ${DATA.tasks[code].name}`])));
  });
  return [option(["all", "all tasks"]), ...groups.filter(Boolean)];
}

function matches(entry, state, words) {
  const { question } = entry;
  if (state.task !== "all" && question.task !== state.task && DATA.tasks[question.task].dimension !== state.task) return false;
  if (state.failures && !question.failed) return false;
  if (!OUTCOMES[state.outcome][1](question)) return false;
  if (!words.length) return true;
  entry.text ??= [question.id, question.query, ...question.answers.map((a) => a.text), ...question.responses.map((r) => r.text)].join("\n").toLowerCase();
  return words.every((word) => entry.text.includes(word));
}

function readForm(form) {
  const state = {};
  for (const name of Object.keys(DEFAULTS)) {
    const field = form.elements[name];
    state[name] = field.type === "checkbox" ? field.checked : field.value;
  }
  return state;
}

/** The choices live in the address, so that a reload keeps them and a link carries them. */
function writeHash(state) {
  const changed = Object.entries(state).filter(([name, value]) => value !== DEFAULTS[name]);
  const hash = new URLSearchParams(changed.map(([name, value]) => [name, String(value)])).toString();
  if (!hash && !window.location.hash.includes("=")) return;
  try {
    window.history.replaceState(null, "", hash ? `#${hash}` : window.location.pathname);
  } catch {
    // A page shown inside another one may have no address of its own; the choices work without it.
  }
}

function readHash(form) {
  for (const [name, value] of new URLSearchParams(window.location.hash.slice(1))) {
    if (!Object.hasOwn(DEFAULTS, name)) continue;
    const field = form.elements[name];
    if (field.type === "checkbox") field.checked = value === "true";
    else if (field.tagName !== "SELECT" || [...field.options].some((each) => each.value === value)) field.value = value;
  }
}
