"""Every phrase of generated clips: questions (at least three phrasings each), corpus for the vocabulary."""

from __future__ import annotations

from train.synthetic.sprites.scenes import catalog
from train.synthetic.sprites.scenes.stage import VERBS

QUESTIONS: dict[str, tuple[str, ...]] = {
    "EU": (
        "Tell me each thing the {subject} does.",
        "Describe every step of the {subject} as it happens.",
        "What does the {subject} do? Tell me step by step.",
    ),
    "EU-all": (
        "Tell me everything that happens.",
        "Describe each event as it happens.",
        "What is going on? Report every event.",
    ),
    "OU": (
        "Report each change of the {subject}.",
        "Tell me whenever the {subject} changes.",
        "How does the state of the {subject} change?",
    ),
    "AA": (
        "Warn me at once if something is wrong.",
        "Alert me to any danger and name it.",
        "Tell me immediately when something unusual happens.",
    ),
    "TP": (
        "What happens right after this: {event}",
        "Tell me the next event after this one: {event}",
        "Wait for this: {event} Then tell me what comes next.",
    ),
    "TG-view": (
        "When is the {subject} in view? Give the time.",
        "Between which times can the {subject} be seen?",
        "Give me the interval during which the {subject} is visible.",
    ),
    "TG-event": (
        "When does this happen: {event} Give the time.",
        "Between which times does this happen: {event}",
        "Give me the interval of this event: {event}",
    ),
    "GP": (
        "Guide me through making {dish}.",
        "I want to make {dish}. Tell me each step.",
        "Help me cook {dish}, one instruction at a time.",
    ),
    "RF": (
        "Warn me before I run into something.",
        "I am walking. Tell me about obstacles in my way.",
        "Alert me three seconds before I hit anything.",
    ),
    "EC": (
        "Name everything you see, every second.",
        "List what is in view in each frame.",
        "Every second, say which things are there.",
    ),
    "AC": (
        "What is the {subject} doing? Answer every second.",
        "Every second, say what the {subject} does.",
        "Describe the {subject} in each frame.",
    ),
}
"""Question templates by kind; the part before a dash is the task."""


def add_text(ingredient: str) -> str:
    return f"Add the {ingredient}."


def ready_text(dish: str) -> str:
    return f"The {dish} is ready."


def corpus() -> list[str]:
    """Every phrase over every seen name: what the vocabulary is made from. Unseen names are left out."""
    lines: list[str] = []
    actors = list(catalog.ACTORS)
    for name in actors:
        lines += [f"The {name} {verb}." for verb in VERBS.values()]
        lines += [f"Watch out: {name} ahead.", name, f"{name}, {name}"]
        for kind in ("EU", "TG-view", "AC", "TP"):
            lines += [q.format(subject=name, event=f"The {name} enters.") for q in QUESTIONS[kind]]
    for name, states in catalog.STATEFUL.items():
        lines += [f"The {name} is now {state}." for state in states] * 3
        lines += [q.format(subject=name) for q in QUESTIONS["OU"]] + [f"{name}, "] * 3
    for name in catalog.FOOD:
        lines += [add_text(name), f"The {name} goes into the pot.", f"{name}, {name}"] * 3
    for dish in catalog.DISHES:
        lines += [ready_text(dish), *(q.format(dish=dish) for q in QUESTIONS["GP"])] * 3
    lines += [f"Alert: {name}." for name in catalog.ANOMALIES] * 4
    for kind in ("EU-all", "AA", "RF", "EC"):
        lines += QUESTIONS[kind] * 4
    for q in QUESTIONS["TG-event"]:
        lines += [q.format(event=f"The {name} spins.") for name in actors]
    lines += ["12s-20s", "nothing", "still", "not there", "moves left, enters, is still"] * 8
    return lines
