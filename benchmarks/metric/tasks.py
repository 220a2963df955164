"""The tasks of StreamPro-Bench: when to speak, in one table (paper section 3 and appendix A.2).

A task turns an event ``[start, end]`` and the time of the query into three things: the best response time
(a point, or an interval for EU and TP), the window in which a response may be matched to the event, and the
score of a response's time, ``S_time = max(0, 1 - distance / tau)``.

Where the paper is silent, this project's choice:

- GP, first step: its best time is the query time, and no response can come before the query. So the window
  of a step that starts at or before the query is turned round, to ``[query, query + 3]``.
- RF: a hazard closer than 3 s to the query keeps its best time of ``start - 3``, although nobody could have
  spoken then.
- A response before the query matches nothing: every window is cut at the query time.
- EC and AC exist in training data only, with an answer for each second: one is due at the end of its second.
  They belong to no dimension, so that they are reported but never enter an average of the benchmark.
"""

from __future__ import annotations

from dataclasses import dataclass

SLACK_S = 1e-6
"""Windows are closed; a microsecond absorbs the rounding of sums such as 5.1 - 3 + 3."""

REWARD_TAU_S = 8.0
"""tau and half-width of the window of every task in the turn reward (paper section 4.2)."""

DIMENSIONS = {"PU": "proactive understanding", "TR": "temporal reasoning", "PA": "proactive agency"}


@dataclass(frozen=True)
class Task:
    """One row of the table. Times in seconds; ``before`` and ``after``: the window around the best time."""

    code: str
    name: str
    dimension: str | None
    """Key of DIMENSIONS, or None for a task that is only trained on."""
    anchor: str
    """Best time: ``interval`` [start, end], ``start`` or ``end`` of the event, plus ``offset``."""
    before: float
    after: float
    tau_early: float
    tau_late: float
    offset: float = 0.0

    def best_time(self, start: float, end: float, query_time: float) -> tuple[float, float]:
        """First and last best moment to speak of an event; equal unless the task is an interval task."""
        if self.anchor == "interval":
            return start, end
        if self._is_first_step(start, query_time):
            return query_time, query_time
        best = (start if self.anchor == "start" else end) + self.offset
        return best, best

    def window(self, start: float, end: float, query_time: float) -> tuple[float, float]:
        """First and last moment of a response that may be matched to the event; never before the query."""
        first, last = self.best_time(start, end, query_time)
        before, after = self.before, self.after
        if self._is_first_step(start, query_time):
            before, after = after, before
        return max(first - before, query_time), last + after

    def reward_window(
        self, start: float, end: float, query_time: float, tau: float = REWARD_TAU_S, one_sided: bool = True
    ) -> tuple[float, float]:
        """Window of the turn reward: best time +-``tau``; for PA it ends at the best time (algorithm 1),
        unless ``one_sided`` is False.
        """
        first, last = self.best_time(start, end, query_time)
        before, after = tau, 0.0 if one_sided and self.dimension == "PA" else tau
        if self._is_first_step(start, query_time):
            before, after = after, before
        return max(first - before, query_time), last + after

    def time_score(
        self, time: float, start: float, end: float, query_time: float, tau: float | None = None
    ) -> float:
        """S_time in [0, 1] of a response at ``time``; ``tau`` replaces the task's own (8 in the reward)."""
        first, last = self.best_time(start, end, query_time)
        if time < first:
            return max(0.0, 1.0 - (first - time) / (tau or self.tau_early))
        return max(0.0, 1.0 - max(0.0, time - last) / (tau or self.tau_late))

    def _is_first_step(self, start: float, query_time: float) -> bool:
        return self.code == "GP" and start <= query_time + SLACK_S


TASKS: dict[str, Task] = {
    task.code: task
    for task in (
        #    code  name                   dim   anchor      before after early late offset
        Task("EU", "event understanding", "PU", "interval", 0.0, 3.0, 4.0, 4.0),
        Task("OU", "object understanding", "PU", "start", 3.0, 3.0, 4.0, 4.0),
        Task("AA", "anomaly alert", "PU", "start", 0.0, 5.0, 6.0, 6.0),
        Task("TP", "temporal perception", "TR", "interval", 0.0, 3.0, 4.0, 4.0),
        Task("TG", "temporal grounding", "TR", "end", 3.0, 3.0, 4.0, 4.0),
        Task("GP", "goal planning", "PA", "start", 3.0, 0.0, 4.0, 4.0),
        Task("RF", "risk forecasting", "PA", "start", 1.0, 3.0, 2.0, 4.0, -3.0),
        Task("EC", "event captioning", None, "end", 0.5, 0.5, 4.0, 4.0),
        Task("AC", "action captioning", None, "end", 0.5, 0.5, 4.0, 4.0),
    )
}
"""Every task by its code, in the paper's order."""
