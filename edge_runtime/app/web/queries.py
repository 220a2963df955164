"""Questions of a camera: ask, change, pause, withdraw. In force from the next timestep."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from edge_runtime.app.run.control import Control, QueryChange, QueryStatus
from edge_runtime.errors import ConfigError
from edge_runtime.events.policy import PolicySettings, parse_quiet_hours
from edge_runtime.events.query_config import QueryConfig

Score = Annotated[float, Field(ge=0, le=1)]
Seconds = Annotated[float, Field(ge=0, le=1e9)]
Text = Annotated[str, Field(min_length=1, max_length=2000)]


class Policy(BaseModel):
    """When responses go out. What is left out stays as it is; keys as in edge-run.toml."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    threshold: Score | None = Field(None, description="Null: the model's own.")
    min_gap: Seconds = Field(0.0, description="Seconds between two responses.")
    repeat: Seconds = Field(5.0, description="Seconds in which the same words are not said again.")
    debounce: tuple[Annotated[int, Field(ge=1, le=1000)], Annotated[int, Field(ge=1, le=1000)]] = Field(
        (1, 1), description="[k, n]: the model spoke in k of the last n timesteps."
    )
    budget: Annotated[int, Field(ge=1, le=1_000_000)] | None = Field(
        None, description="Responses per hour; null: no limit."
    )
    quiet_hours: Annotated[str, Field(max_length=20)] | None = Field(
        None, description="Such as 22:00-06:30; null: none."
    )

    def on(self, base: PolicySettings) -> PolicySettings:
        """``base`` with what is given. Raises ConfigError."""
        try:
            given = {_FIELDS[name]: getattr(self, name) for name in self.model_fields_set if name in _FIELDS}
            if given.get("quiet_hours") is not None:
                given["quiet_hours"] = parse_quiet_hours(given["quiet_hours"])
            return replace(base, **given)
        except ValueError as err:
            raise ConfigError(str(err)) from err


_FIELDS = {
    "threshold": "threshold",
    "min_gap": "min_gap_s",
    "repeat": "repeat_s",
    "debounce": "debounce",
    "budget": "budget_per_hour",
    "quiet_hours": "quiet_hours",
}


class NewQuery(Policy):
    """A question. What is left out is as the camera has it in edge-run.toml."""

    text: Text
    at: Seconds = Field(0.0, description="Seconds of the stream from which it is watched for.")
    paused: bool = False
    ask_anyway: bool = Field(False, description="Ask it even if the model was not trained for it.")

    def config(self, base: PolicySettings) -> QueryConfig:
        """The question, on top of its camera's policy. Raises ConfigError."""
        return QueryConfig(self.text, self.at, self.on(base), ask_anyway=self.ask_anyway, paused=self.paused)


class ChangedQuery(Policy):
    """What is to change of a question."""

    text: Text | None = Field(None, description="The model forgets what it saw under the old text.")
    paused: bool | None = None


class QueryView(BaseModel):
    """A question as it is now."""

    id: str
    text: str
    threshold: float
    """The one in force."""
    paused: bool
    asked: bool
    """False until its time has come."""
    score: float | None
    """Of the last timestep."""
    unknown_words: tuple[str, ...]
    """Words that the model was not trained for: it is paused until somebody resumes it."""
    min_gap: float
    repeat: float
    debounce: tuple[int, int]
    budget: int | None
    quiet_hours: str | None


def queries_router(control: Control) -> APIRouter:
    router = APIRouter(prefix="/api/v1/cameras/{camera:path}/queries", tags=["questions"])

    @router.get("")
    def queries(camera: str) -> list[QueryView]:
        """The questions of a camera."""
        return [_view(query) for query in control.queries(camera)]

    @router.post("", status_code=201)
    def ask(camera: str, body: NewQuery) -> QueryView:
        """Ask one more question. One that the model was not trained for is answered with ``paused``."""
        return _view(control.ask(camera, body.config(control.default_policy(camera))))

    @router.patch("/{query}")
    def change(camera: str, query: str, body: ChangedQuery) -> QueryView:
        """Change what is given: text, threshold, pause, policy."""
        found = control.query(camera, query)
        policy = body.on(found.policy) if body.model_fields_set & _FIELDS.keys() else None
        return _view(control.change(camera, query, QueryChange(body.text, None, body.paused, policy)))

    @router.delete("/{query}", status_code=204)
    def withdraw(camera: str, query: str) -> None:
        """Withdraw a question. Its id is not given again."""
        control.withdraw(camera, query)

    return router


def _view(query: QueryStatus) -> QueryView:
    policy = query.policy
    quiet: Any = policy.quiet_hours
    return QueryView(
        id=query.id,
        text=query.text,
        threshold=query.threshold,
        paused=query.paused,
        asked=query.asked,
        score=None if query.score is None else round(query.score, 4),
        unknown_words=query.unknown_words,
        min_gap=policy.min_gap_s,
        repeat=policy.repeat_s,
        debounce=policy.debounce,
        budget=policy.budget_per_hour,
        quiet_hours=None if quiet is None else f"{quiet[0]:%H:%M}-{quiet[1]:%H:%M}",
    )
