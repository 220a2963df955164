"""SmolLM2 as a compact model: what is added to a pretrained Llama, and what stays as it was."""

from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from transformers import DynamicCache, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from edge_runtime.bundle.stream_format import TurnEncoder
from tests.train.chat import chat_tokenizer
from train.models.base import UNUSED
from train.models.checkpoint import load_checkpoint
from train.models.lora import decoder_sha256
from train.models.registry import BackboneError
from train.models.smollm import PACKAGE, build_smol, from_llama, make_smol, smol_stream_format
from train.sft.recipe import load_recipe


def tiny_llama(tokenizer, **changes):
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=48,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=3,
        num_key_value_heads=1,
        rms_norm_eps=1e-5,
        rope_parameters={"rope_type": "default", "rope_theta": 100000.0},
        tie_word_embeddings=True,
        **changes,
    )
    return LlamaForCausalLM(config).eval()


@pytest.fixture
def source(tmp_path):
    tokenizer = chat_tokenizer()
    tiny_llama(tokenizer).save_pretrained(tmp_path / "hub")
    PreTrainedTokenizerFast(tokenizer_object=tokenizer).save_pretrained(tmp_path / "hub")
    return tmp_path / "hub"


def encoder_of(stream_format, tokenizer):
    return TurnEncoder(stream_format, lambda text: tokenizer.encode(text, add_special_tokens=False).ids)


def test_text_alone_is_read_as_the_original_reads_it():
    tokenizer = chat_tokenizer()
    original, words = tiny_llama(tokenizer), tokenizer.get_vocab_size()
    ids = torch.randint(0, words, (2, 40))
    with torch.no_grad():
        expected = original(ids).logits
        model, _ = from_llama(original, tokenizer, concept_token=False)
        none = torch.zeros(0, 320, 7, 7)
        found = model(ids, none, tokenizer.token_to_id("<|image|>"))
    torch.testing.assert_close(found[..., :words], expected, rtol=1e-5, atol=1e-5)


def test_added_tokens_come_last_in_order_and_padding_is_never_said():
    tokenizer = chat_tokenizer()
    words = tokenizer.get_vocab_size()
    model, tokenizer = from_llama(tiny_llama(tokenizer), tokenizer, concept_token=True)
    added = [tokenizer.token_to_id(name) for name in ("</Silence>", "</Response>", "<|image|>")]
    assert added == [words, words + 1, words + 2]
    assert model.config.used_vocab == words + 3 and model.config.vocab_size % 64 == 0
    logits = model.logits(torch.randn(5, 48))
    assert logits.shape == (5, model.config.vocab_size)
    assert (logits[:, model.config.used_vocab :] == UNUSED).all()
    assert (logits.softmax(-1)[:, model.config.used_vocab :] == 0).all()


def test_a_stream_is_chatml_with_short_turns():
    tokenizer = chat_tokenizer()
    model, tokenizer = from_llama(tiny_llama(tokenizer), tokenizer, concept_token=True)
    stream_format = smol_stream_format(model.frame_tokens)
    encoder = encoder_of(stream_format, tokenizer)
    ids = [*encoder.prefix_ids(), *encoder.query_ids("When?"), *encoder.turn_ids(11)]
    ids += [*encoder.response_ids("Now."), *encoder.turn_ids(12), *encoder.silence_ids()]
    image = "<|image|>" * 10
    assert tokenizer.decode(ids, skip_special_tokens=False) == (
        f"<|im_start|>system\n{stream_format.system_prompt}<|im_end|>\n<|im_start|>user\nWhen?<|im_end|>"
        f"<|im_start|>12s{image}<|im_end|></Response> Now.<|im_end|>"
        f"<|im_start|>13s{image}<|im_end|></Silence>"
    )
    assert encoder.stop_id == tokenizer.token_to_id("<|im_end|>")


def test_a_folder_becomes_a_base_that_loads_and_computes_the_same(source, tmp_path):
    model, _ = build_smol(str(source))
    make_smol(tmp_path / "base", str(source), concept_token=True)
    loaded = load_checkpoint(tmp_path / "base")
    assert loaded.stream_format == smol_stream_format(10) and loaded.model.config == model.config
    ids = torch.tensor([encoder_of(loaded.stream_format, loaded.tokenizer).turn_ids(3)])
    image_id = loaded.tokenizer.token_to_id("<|image|>")
    features = torch.randn(1, 320, 7, 7)
    make_smol(tmp_path / "again", str(source), concept_token=True)
    assert decoder_sha256(load_checkpoint(tmp_path / "again").model) == decoder_sha256(loaded.model)
    loaded.model.projector.load_state_dict(model.projector.state_dict())  # it starts at random each time
    with torch.no_grad():
        assert torch.equal(loaded.model(ids, features, image_id), model(ids, features, image_id))


@torch.no_grad()
def test_chunks_with_a_cache_equal_one_pass(source):
    model, tokenizer = build_smol(str(source))
    encoder = encoder_of(smol_stream_format(), tokenizer)
    chunks = [encoder.prefix_ids()]
    chunks += [[*encoder.turn_ids(k), *encoder.silence_ids()] for k in range(3)]
    visual = model.visual(torch.randn(3, 320, 7, 7))
    whole = torch.tensor([[i for chunk in chunks for i in chunk]])
    expected = model.logits(model.hidden(whole, visual, encoder.image_id))
    cache, at, found = DynamicCache(), torch.zeros(1, dtype=torch.long), []
    for k, chunk in enumerate(chunks):
        ids = torch.tensor([chunk])
        positions, at = model.positions(ids, encoder.image_id, at)
        here = visual.select(torch.arange(max(0, k - 1), k))
        found.append(model.hidden(ids, here, encoder.image_id, positions=positions, cache=cache))
    torch.testing.assert_close(model.logits(torch.cat(found, dim=1)), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("changes", [{"attention_bias": True}, {"hidden_act": "gelu"}])
def test_a_decoder_that_a_checkpoint_could_not_say_is_refused(changes):
    tokenizer = chat_tokenizer()
    with pytest.raises(BackboneError):
        from_llama(tiny_llama(tokenizer, **changes), tokenizer, concept_token=False)


def test_what_is_not_there_is_said(tmp_path):
    with pytest.raises(BackboneError, match="nowhere"):
        build_smol(str(tmp_path / "nowhere"))


ROOT = Path(__file__).parents[3]
RECIPES = ROOT / "train" / "recipes"


@pytest.mark.parametrize("name", ["smol-pretrain", "smol-chunks", "smol-sft"])
def test_the_shipped_recipes_speak_smols_protocol_and_train_the_same_adapters(name):
    recipe = load_recipe(RECIPES / f"{name}.toml")
    assert recipe.protocol == smol_stream_format()
    assert recipe.lora == load_recipe(RECIPES / "smol-sft.toml").lora is not None


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_package_becomes_smol():
    pytest.importorskip("gguf")
    if find_spec(PACKAGE) is None:  # importing it would want a chat program
        pytest.skip(f"{PACKAGE} is not installed")
    model, tokenizer = build_smol()
    assert tokenizer.token_to_id("</Silence>") == 49152 and tokenizer.token_to_id("</Response>") == 49153
    assert (model.config.vocab_size, model.config.num_layers, model.config.hidden_size) == (49216, 30, 576)
    text = "The capital of France is"
    ids = torch.tensor([tokenizer.encode(text, add_special_tokens=False).ids])
    with torch.no_grad():
        said = model(ids, torch.zeros(0, 320, 7, 7), tokenizer.token_to_id("<|image|>"))[0, -1].argmax()
    assert tokenizer.decode([int(said)]) == " Paris"
