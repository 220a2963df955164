"""The probe of the concept token: its arithmetic by hand, and a tiny model that must name what it sees."""

from dataclasses import replace

import pytest
import torch

from benchmarks.metric.annotations import Annotation, Query
from tests.train.tiny_config import ONE_LAYER
from train.models.compact.model import CompactModel
from train.models.tokenizer import train_tokenizer
from train.pretrain.concept_probe import _auc, measure, name_log_probs, names_in_view, told_apart


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer(["Seen: cat. The picture shows a cat", "dog house car"] * 9, 1400)


@pytest.fixture
def model():
    torch.manual_seed(0)
    return CompactModel(replace(ONE_LAYER, vocab_size=1400, concept_token=True)).eval()


def test_auc_by_hand():
    truth = torch.tensor([True, True, False, False])
    assert _auc(torch.tensor([3.0, 1.0, 2.0, 0.0]), truth) == pytest.approx(0.75)
    assert _auc(torch.ones(4), truth) == pytest.approx(0.5)


def test_names_are_probabilities_and_depend_on_the_picture_only_through_the_token(model, tokenizer):
    features = torch.randn(3, 320, 7, 7)
    with torch.no_grad():
        model.projector.concept.names.normal_(std=5.0)
    found = name_log_probs(model, tokenizer, features, ["cat", "dog", "house"])
    torch.testing.assert_close(found.exp().sum(1), torch.ones(3))
    assert not torch.allclose(found[0], found[1])
    with torch.no_grad():
        model.projector.concept.names.zero_()
    same = name_log_probs(model, tokenizer, features, ["cat", "dog", "house"])
    torch.testing.assert_close(same[0], same[1])
    assert name_log_probs(model, tokenizer, None, ["cat", "dog"]).shape == (1, 2)


def test_names_that_begin_alike_are_left_out(tokenizer):
    cat, dog = (tokenizer.encode(f" {name}", add_special_tokens=False).ids[0] for name in ("cat", "dog"))
    assert cat != dog
    assert told_apart(tokenizer, ["cat", "cat cat", "dog"]) == ["dog"]


def test_figures_by_hand(model, tokenizer, monkeypatch):
    table = {
        None: [[0.5, 0.3, 0.2]],
        4: [[0.6, 0.3, 0.1], [0.5, 0.4, 0.1], [0.2, 0.2, 0.6], [0.9, 0.05, 0.05]],
    }

    def given(model, tokenizer, features, names):
        assert names == ["car", "cat", "dog"]
        return torch.tensor(table[None if features is None else len(features)]).log()

    monkeypatch.setattr("train.pretrain.concept_probe.name_log_probs", given)
    found = measure(model, tokenizer, torch.zeros(4, 320, 7, 7), [{"car"}, {"cat"}, {"dog"}, set()])
    assert (found.frames, found.names) == (3, 3) and found.by_chance == pytest.approx(1 / 3)
    assert found.probability_without == pytest.approx((0.5 + 0.3 + 0.2) / 3)
    assert found.first_without == pytest.approx(1 / 3)
    assert found.probability == pytest.approx((0.6 + 0.4 + 0.6) / 3)
    assert found.first == pytest.approx(2 / 3)  # the second frame's likeliest is the car
    assert found.first_corrected == pytest.approx(1.0)  # 0.4 / 0.3 is more than 0.5 / 0.5
    assert found.auc == pytest.approx((2 / 3 + 1.0 + 1.0) / 3)  # the car is likelier in the empty frame


def test_what_is_in_view_comes_from_shots_or_from_the_world(tmp_path):
    shots = {"shots": [["cat", 0.0, 4.0], ["dog", 5.0, 9.0]]}
    question = Annotation("q", "clips/x.mp4", 9.0, "EU", Query(0.0, "?"), (), extra=shots)
    assert names_in_view(question, range(9)) == [{"cat"}] * 4 + [set()] + [{"dog"}] * 4
    world = Annotation("q", "clips/unseen-1-00000.mp4", 30.0, "EU", Query(0.0, "?"), ())
    assert any(names_in_view(world, range(20)))
