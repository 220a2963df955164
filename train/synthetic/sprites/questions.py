"""From what is true of a story to questions with timed answers, in the annotation format (formats.md)."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np

from train.synthetic.sprites.rubrics import write_rubric
from train.synthetic.sprites.scenes.scene import Actor, Event
from train.synthetic.sprites.scenes.stage import Story
from train.synthetic.sprites.texts import QUESTIONS, add_text, ready_text

Answer = tuple[float, float, str]


def ask_all(
    rng: np.random.Generator, story: Story, clip: str, video: str, training: bool
) -> list[dict[str, Any]]:
    """Annotation records of every task this story can answer, one question a task (EU may have two).

    ``training`` adds the captioning tasks EC and AC, which the benchmark does not have.
    """
    made: list[tuple[str, float, str, list[Answer]]] = []
    for ask in (
        _events,
        _changes,
        _anomalies,
        _next,
        _grounding,
        _plan,
        _hazards,
        *((_names, _doing) if training else ()),
    ):
        made += ask(rng, story)
    records = []
    for i, (task, time, text, answers) in enumerate(made, start=1):
        if not answers:
            continue
        records.append(
            {
                "id": f"{clip}/q{i}",
                "video": video,
                "duration": story.scene.duration,
                "task": task,
                "query": {"time": time, "text": text},
                "answers": [{"start": s, "end": e, "text": words} for s, e, words in answers],
                "rubric": write_rubric([words for _, _, words in answers]),
                "world": {"family": story.family},
            }
        )
    return records


def phrase(rng: np.random.Generator, kind: str, **names: str) -> str:
    """One of the phrasings of QUESTIONS[``kind``]."""
    templates = QUESTIONS[kind]
    return templates[int(rng.integers(len(templates)))].format(**names)


def query_time(rng: np.random.Generator, latest: float = 8.0) -> float:
    """A whole second from 0 to ``latest``; a third of the questions come at the start."""
    return 0.0 if rng.random() < 0.34 else float(rng.integers(0, max(1, int(latest)) + 1))


def _after(events: list[Event], time: float) -> list[Answer]:
    return [(e.start, e.end, e.text) for e in events if e.start >= time]


def _events(rng: np.random.Generator, story: Story) -> list[tuple[str, float, str, list[Answer]]]:
    if story.family == "walk" or not story.events:
        return []
    time = query_time(rng)
    made = [("EU", time, phrase(rng, "EU-all"), _after(story.events, time))]
    later = Counter(e.subject for e in story.events if e.start >= time)
    busy = [name for name, n in later.items() if n >= 2]
    if busy and story.family == "stage":
        subject = busy[int(rng.integers(len(busy)))]
        mine = [e for e in story.events if e.subject == subject]
        made.append(("EU", time, phrase(rng, "EU", subject=subject), _after(mine, time)))
    return made


def _changes(rng: np.random.Generator, story: Story) -> list[tuple[str, float, str, list[Answer]]]:
    if not story.changes:
        return []
    time = query_time(rng, story.changes[-1].start - 3)
    return [("OU", time, phrase(rng, "OU", subject=story.changes[0].subject), _after(story.changes, time))]


def _anomalies(rng: np.random.Generator, story: Story) -> list[tuple[str, float, str, list[Answer]]]:
    if not story.anomalies:
        return []
    time = query_time(rng, story.anomalies[0].start - 1)
    return [("AA", time, phrase(rng, "AA"), _after(story.anomalies, time))]


def _next(rng: np.random.Generator, story: Story) -> list[tuple[str, float, str, list[Answer]]]:
    """TP: an event that happens once, and the event after it."""
    if story.family == "walk":
        return []
    often = Counter(e.text for e in story.events)
    pairs = [(a, b) for a, b in zip(story.events, story.events[1:], strict=False) if often[a.text] == 1]
    if not pairs:
        return []
    first, second = pairs[int(rng.integers(len(pairs)))]
    time = query_time(rng, min(first.start, 20.0))
    time = min(time, float(np.floor(first.start)))
    return [("TP", time, phrase(rng, "TP", event=first.text), [(second.start, second.end, second.text)])]


def _grounding(rng: np.random.Generator, story: Story) -> list[tuple[str, float, str, list[Answer]]]:
    """TG: an event of three seconds or more that happens once, or the one stay of an actor.

    The text names whole seconds, rounded down: those of the intervals in which start and end are first seen.
    """
    if story.family != "stage":
        return []
    choices: list[tuple[float, float, str]] = []
    often = Counter(e.text for e in story.events)
    for e in story.events:
        if often[e.text] == 1 and e.end - e.start >= 3.0:
            choices.append((e.start, e.end, phrase(rng, "TG-event", event=e.text)))
    for name in {e.subject for e in story.events}:
        mine = [e for e in story.events if e.subject == name]
        came = [e for e in mine if e.kind in ("enters", "appears")]
        went = [e for e in mine if e.kind in ("leaves", "fades")]
        if len(came) == 1 and len(went) == 1 and came[0].start < went[0].start and mine[0] is came[0]:
            choices.append((came[0].start, went[0].end, phrase(rng, "TG-view", subject=name)))
    for e in story.anomalies:
        choices.append((e.start, e.end, phrase(rng, "TG-view", subject=e.subject)))
    choices = [c for c in choices if c[1] < story.scene.duration - 2]
    if not choices:
        return []
    start, end, text = choices[int(rng.integers(len(choices)))]
    time = min(query_time(rng), float(np.floor(start)))
    return [("TG", time, text, [(start, end, f"{int(start)}s-{int(end)}s")])]


def _plan(rng: np.random.Generator, story: Story) -> list[tuple[str, float, str, list[Answer]]]:
    if story.family != "kitchen":
        return []
    dish, asked = str(story.detail["dish"]), float(story.detail["asked"])  # type: ignore[arg-type]
    begins = [asked, *(e.end for e in story.events)]
    answers = [
        (begin, step.end, add_text(step.subject)) for begin, step in zip(begins, story.events, strict=False)
    ]
    answers.append((begins[-1], begins[-1] + 1.0, ready_text(dish)))
    return [("GP", asked, phrase(rng, "GP", dish=dish), answers)]


def _hazards(rng: np.random.Generator, story: Story) -> list[tuple[str, float, str, list[Answer]]]:
    if story.family != "walk":
        return []
    time = query_time(rng, story.events[0].start - 5)
    return [("RF", time, phrase(rng, "RF"), [a for a in _after(story.events, time) if a[0] - 3 >= time])]


def _in_view(actors: list[Actor], t: float) -> list[Actor]:
    seen = [a for a in actors if a.visible(t) and a.size.at(t) >= 30 and 0 <= a.x.at(t) <= 224]
    return sorted(seen, key=lambda a: a.x.at(t))


def _names(rng: np.random.Generator, story: Story) -> list[tuple[str, float, str, list[Answer]]]:
    """EC: the names of what is in view, from left to right, second by second."""
    time = float(rng.integers(0, max(1, int(story.scene.duration) - 16)))
    answers = []
    for end in range(int(time) + 1, min(int(time) + 16, int(story.scene.duration)) + 1):
        names = [a.name for a in _in_view(story.scene.actors, end - 0.1)]
        answers.append((end - 1.0, float(end), ", ".join(names[:5]) or "nothing"))
    return [("EC", time, phrase(rng, "EC"), answers)]


def _doing(rng: np.random.Generator, story: Story) -> list[tuple[str, float, str, list[Answer]]]:
    """AC: what one actor is doing, second by second."""
    if story.family != "stage":
        return []
    subjects = sorted({e.subject for e in story.events})
    subject = subjects[int(rng.integers(len(subjects)))]
    actor = next(a for a in story.scene.actors if a.name == subject)
    mine = [e for e in story.events if e.subject == subject]
    time = float(rng.integers(0, max(1, int(story.scene.duration) - 20)))
    answers = []
    for end in range(int(time) + 1, min(int(time) + 20, int(story.scene.duration)) + 1):
        now = [e for e in mine if e.start + 0.4 <= end - 0.1 <= e.end + 0.45]
        idle = "still" if actor.visible(end - 0.1) else "not there"
        answers.append((end - 1.0, float(end), now[-1].doing if now else idle))
    return [("AC", time, phrase(rng, "AC", subject=subject), answers)]
