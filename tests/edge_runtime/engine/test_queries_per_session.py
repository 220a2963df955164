"""A session takes as many queries at a time as the model was trained with, and no more."""

import json
import shutil

import pytest

import edge_runtime
from edge_runtime.errors import ConfigError

QUERY = "Tell me each step as it is finished."


def trained_with(bundle, out, questions):
    """The bundle, as if its training had asked so many questions of a clip at a time."""
    shutil.copytree(bundle, out)
    manifest = json.loads((out / "bundle.json").read_text())
    manifest["training"] = {"recipe": {"data": {"questions_per_clip": questions}}}
    (out / "bundle.json").write_text(json.dumps(manifest))
    return edge_runtime.load(out, threads=1)


def test_more_queries_than_training_had_are_refused_with_the_remedy(tiny_bundle, tmp_path):
    model = trained_with(tiny_bundle, tmp_path / "single", 1)
    with model.session() as session, model.session() as other:
        first = session.ask(QUERY)
        with pytest.raises(ConfigError, match=r"trained with 1 .*q1.*one session per question") as caught:
            session.ask("What does the person do?")
        assert "\n" not in str(caught.value) and session.queries == {first: QUERY}
        other.ask("What does the person do?")  # the remedy
        session.remove(first)
        assert session.ask("What does the person do?") == "q2"
    with trained_with(tiny_bundle, tmp_path / "several", 2).session() as session:
        assert [session.ask(QUERY), session.ask(QUERY)] == ["q1", "q2"]
        with pytest.raises(ConfigError, match="trained with 2"):
            session.ask(QUERY)


def test_the_shipped_model_watches_for_one_question_a_session():
    assert edge_runtime.load("nano", threads=1).queries_per_session == 1
