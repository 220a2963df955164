"""The concept token: the real classifier, and a token that says what it sees in the decoder's words."""

import copy
from dataclasses import replace

import pytest
import torch

from tests.train.tiny_config import ONE_LAYER
from train.models.compact.concept import class_names, name_embeddings
from train.models.compact.lite0 import _load_network, load_imagenet_head, load_lite0
from train.models.compact.model import CompactConfig, CompactModel
from train.models.tokenizer import train_tokenizer

CONFIG = replace(ONE_LAYER, vocab_size=1400, concept_token=True)


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer(["a tabby cat", "a coffee mug", "a golden retriever dog"], 1400)


@pytest.fixture
def model(tokenizer):
    torch.manual_seed(0)
    model = CompactModel(CONFIG)
    model.name_concepts(tokenizer)
    return model


def test_the_head_on_the_backbones_features_is_the_classifier_of_the_package():
    torch.manual_seed(0)
    pixels = torch.rand(2, 3, 224, 224) * 2 - 1
    with torch.no_grad():
        expected = _load_network().eval()(pixels).softmax(-1)
        found = load_imagenet_head()(load_lite0()(pixels))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-7)


def test_names_are_everyday_words_in_the_classifiers_order():
    names = class_names()
    assert len(names) == 1000
    assert (names[1], names[207], names[282], names[504]) == (
        "goldfish",
        "golden retriever dog",
        "tiger cat",
        "coffee mug",
    )


def test_a_name_is_the_mean_of_its_tokens(tokenizer):
    table = torch.randn(1400, 8)
    ids = tokenizer.encode(" coffee mug", add_special_tokens=False).ids
    torch.testing.assert_close(name_embeddings(table, tokenizer)[504], table[ids].mean(0))


def test_the_token_starts_as_the_probable_names_and_stands_last(model, tokenizer):
    features = torch.randn(3, 320, 7, 7)
    concept = model.projector.concept
    probabilities = concept.head(features)
    torch.testing.assert_close(probabilities.sum(-1), torch.ones(3))
    expected = probabilities @ name_embeddings(model.decoder.get_input_embeddings().weight, tokenizer)
    tokens = model.eval().visual(features).tokens
    assert tokens.shape == (3, 10, 32) and CONFIG.frame_tokens == 10
    torch.testing.assert_close(tokens[:, -1], expected)
    torch.testing.assert_close(tokens[:, :-1], model.projector.read_regions(features))


def test_its_adaptation_is_trained_and_the_classifier_is_not(model):
    model.visual(torch.randn(2, 320, 7, 7)).tokens.square().sum().backward()
    concept = model.projector.concept
    assert concept.adapt.weight.grad.abs().max() > 0
    assert [name for name, _ in concept.named_parameters()] == ["adapt.weight", "adapt.bias"]


def test_the_classifier_comes_from_its_package_and_not_from_a_checkpoint(model):
    names = [name for name in model.state_dict() if "concept" in name]
    assert sorted(names) == [
        "projector.concept.adapt.bias",
        "projector.concept.adapt.weight",
        "projector.concept.names",
    ]
    torch.manual_seed(1)
    other = CompactModel(CONFIG)
    other.load_state_dict(copy.deepcopy(model.state_dict()))
    features = torch.randn(2, 320, 7, 7)
    assert torch.equal(model.eval().visual(features).tokens, other.eval().visual(features).tokens)


def test_without_it_nothing_is_loaded_and_nothing_changes():
    model = CompactModel(CompactConfig(num_layers=1))
    assert model.projector.concept is None and model.frame_tokens == 9
    assert not [name for name in model.state_dict() if "concept" in name]
