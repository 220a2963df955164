"""Qwen2.5-VL and Qwen3-VL in tiny random configurations: the same numbers as transformers' own forward."""

import json

import numpy as np
import pytest
import torch
from transformers import (
    DynamicCache,
    LlamaConfig,
    PreTrainedTokenizerFast,
    Qwen2_5_VLConfig,
    Qwen2VLImageProcessorPil,
    Qwen3VLConfig,
)

from edge_runtime.bundle.stream_format import TurnEncoder
from tests.train.chat import chat_tokenizer
from train.models.base import UNUSED
from train.models.checkpoint import load_checkpoint, save_checkpoint
from train.models.qwen.backbone import make_qwen, save_tower
from train.models.qwen.model import QWEN2_5, QWEN3, WHOLE, qwen_stream_format, take_apart
from train.models.qwen.vision import QwenVision
from train.models.registry import BackboneError

PICTURES = {QWEN2_5: (112, 168), QWEN3: (64, 96)}


def tiny_config(family, tied):
    tokenizer = chat_tokenizer()
    ids = {
        "image_token_id": tokenizer.token_to_id("<|image_pad|>"),
        "video_token_id": tokenizer.token_to_id("<|video_pad|>"),
        "vision_start_token_id": tokenizer.token_to_id("<|vision_start|>"),
        "vision_end_token_id": tokenizer.token_to_id("<|vision_end|>"),
    }
    text = {
        "vocab_size": tokenizer.get_vocab_size(),
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "tie_word_embeddings": tied,
        "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [2, 3, 3]},
    }
    vision = {"depth": 3, "num_heads": 2, "spatial_merge_size": 2, "temporal_patch_size": 2, "in_channels": 3}
    if family == QWEN2_5:
        vision |= {"hidden_size": 32, "intermediate_size": 48, "out_hidden_size": 64, "patch_size": 14}
        vision |= {"window_size": 112, "fullatt_block_indexes": [1]}
        return Qwen2_5_VLConfig(text_config=text, vision_config=vision, tie_word_embeddings=tied, **ids)
    text |= {"head_dim": 16}
    vision |= {"hidden_size": 32, "intermediate_size": 48, "out_hidden_size": 64, "patch_size": 16}
    vision |= {"deepstack_visual_indexes": [0, 1], "num_position_embeddings": 16}
    return Qwen3VLConfig(text_config=text, vision_config=vision, tie_word_embeddings=tied, **ids)


class Tiny:
    """A transformers model of random weights, our model of the same weights, and what goes around them."""

    def __init__(self, family, tied, folder, picture=None):
        picture = picture or PICTURES[family]
        torch.manual_seed(0)
        self.whole = WHOLE[family](tiny_config(family, tied)).eval()
        for parameter in self.whole.parameters():  # large enough that outputs depend on all of them
            if parameter.ndim >= 2:
                torch.nn.init.normal_(parameter, std=0.15)
        self.tokenizer = chat_tokenizer()
        mean, std = ((0.48, 0.46, 0.41), (0.27, 0.26, 0.28)) if family == QWEN2_5 else ((0.5,) * 3,) * 2
        self.vision = save_tower(self.whole, folder, picture, mean, std)
        self.model = take_apart(self.whole, self.tokenizer, picture, self.vision).eval()
        self.stream_format = qwen_stream_format(self.model.frame_tokens)
        self.encoder = TurnEncoder(
            self.stream_format, lambda text: self.tokenizer.encode(text, add_special_tokens=False).ids
        )
        vision = self.whole.config.vision_config
        self.processor = Qwen2VLImageProcessorPil(
            patch_size=vision.patch_size, image_mean=list(mean), image_std=list(std), do_resize=False
        )

    def ids(self, frames=3):
        encoder = self.encoder
        ids = [*encoder.prefix_ids(), *encoder.query_ids("Tell me when.")]
        for k in range(frames):
            ids += encoder.turn_ids(k)
            ids += encoder.response_ids("Now.") if k == 1 else encoder.silence_ids()
        return torch.tensor([ids])

    def pictures(self, frames=3):
        shape = (frames, *self.model.config.picture, 3)
        return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)

    def features(self, pictures, tmp_path):
        self.vision.prepare(tmp_path)
        return torch.from_numpy(self.vision.load(tmp_path)(pictures).astype(np.float32))


@pytest.fixture(params=[(QWEN2_5, True), (QWEN2_5, False), (QWEN3, True), (QWEN3, False)], ids=str)
def tiny(request, tmp_path):
    return Tiny(*request.param, tmp_path)


@torch.no_grad()
def test_logits_equal_the_whole_model_on_real_processor_output(tiny, tmp_path):
    pictures, ids = tiny.pictures(), tiny.ids()
    inputs = tiny.processor(images=list(pictures), return_tensors="pt")
    image = ids == tiny.encoder.image_id
    expected = tiny.whole(
        input_ids=ids,
        pixel_values=inputs["pixel_values"],
        image_grid_thw=inputs["image_grid_thw"],
        mm_token_type_ids=image.int(),
    ).logits
    found = tiny.model(ids, tiny.features(pictures, tmp_path), tiny.encoder.image_id)
    used = tiny.tokenizer.get_vocab_size()
    assert found.shape[-1] == len(tiny.model.decoder.get_input_embeddings().weight)
    assert (found[..., used:] == UNUSED).all()
    torch.testing.assert_close(
        found[..., :used], expected[..., :used], rtol=0, atol=5e-3
    )  # features are half precision
    blind = tiny.model(ids, torch.zeros_like(tiny.features(pictures, tmp_path)), tiny.encoder.image_id)
    assert (blind - found).abs().max() > 0.05


def test_positions_equal_transformers_rope_index(tiny):
    ids = tiny.ids()
    cell = tiny.model.config.vision["patch_size"]
    grid = torch.tensor([[1, *(side // cell for side in tiny.model.config.picture)]] * 3)
    image = (ids == tiny.encoder.image_id).int()
    expected, _ = tiny.whole.model.get_rope_index(ids, image, image_grid_thw=grid)
    found, end = tiny.model.positions(ids, tiny.encoder.image_id, torch.zeros(1, dtype=torch.long))
    assert torch.equal(found, expected)
    assert end.item() == expected.max().item() + 1


def test_positions_of_chunks_go_on_where_the_last_one_ended(tiny):
    ids, image_id = tiny.ids(), tiny.encoder.image_id
    whole, end = tiny.model.positions(ids, image_id, torch.tensor([5]))
    cut = len(tiny.encoder.prefix_ids()) + 3
    first, middle = tiny.model.positions(ids[:, :cut], image_id, torch.tensor([5]))
    second, last = tiny.model.positions(ids[:, cut:], image_id, middle)
    assert torch.equal(torch.cat([first, second], dim=2), whole) and torch.equal(last, end)
    inside = int((ids == image_id).long().argmax()) + 1
    with pytest.raises(ValueError, match="part of one"):
        tiny.model.positions(ids[:, :inside], image_id, torch.tensor([0]))


@torch.no_grad()
def test_chunks_with_a_cache_equal_one_pass(tiny, tmp_path):
    ids, image_id = tiny.ids(), tiny.encoder.image_id
    visual = tiny.model.visual(tiny.features(tiny.pictures(), tmp_path))
    expected = tiny.model.hidden(ids, visual, image_id)
    cache, at, frame, found = DynamicCache(), torch.zeros(1, dtype=torch.long), 0, []
    ends = [20, *(i + 1 for i in range(len(ids[0])) if i > 20 and ids[0, i] == tiny.encoder.stop_id)]
    for start, end in zip([0, *ends[:-1]], ends, strict=True):
        chunk = ids[:, start:end]
        frames = int((chunk == image_id).sum()) // tiny.model.frame_tokens
        here = visual.select(torch.arange(frame, frame + frames))
        positions, at = tiny.model.positions(chunk, image_id, at)
        found.append(tiny.model.hidden(chunk, here, image_id, positions=positions, cache=cache))
        frame += frames
    torch.testing.assert_close(torch.cat(found, dim=1), expected, rtol=1e-4, atol=1e-4)
    with pytest.raises(ValueError, match="positions must be given"):
        tiny.model.hidden(ids[:, :3], visual.select(torch.arange(0)), image_id, cache=cache)


def test_saved_and_loaded_it_gives_the_same_logits(tiny, tmp_path):
    folder = tmp_path / "checkpoint"
    save_checkpoint(folder, tiny.model, tiny.tokenizer, tiny.stream_format, ["EU"], {}, {})
    loaded = load_checkpoint(folder)
    assert loaded.stream_format == tiny.stream_format and loaded.model.config == tiny.model.config
    features = tiny.features(tiny.pictures(), tmp_path)
    with torch.no_grad():
        expected = tiny.model(tiny.ids(), features, tiny.encoder.image_id)
        assert torch.equal(loaded.model(tiny.ids(), features, tiny.encoder.image_id), expected)
    assert loaded.model.vision.key == tiny.vision.key
    assert isinstance(loaded.model.vision, QwenVision)
    assert json.loads((folder / "config.json").read_text())["family"] == tiny.model.family


def test_a_step_trains_decoder_and_mergers_and_leaves_no_parameter_out(tiny, tmp_path):
    model, ids = tiny.model.train(), tiny.ids()
    model.gradient_checkpointing_enable()
    features = tiny.features(tiny.pictures(), tmp_path)
    losses = []
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    for _ in range(8):
        logits = model(ids, features, tiny.encoder.image_id)[:, :-1]
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.7 * losses[0]
    assert not [name for name, parameter in model.named_parameters() if parameter.grad is None]


def test_decision_tokens_are_single_and_their_rows_start_from_words(tiny):
    encoder = tiny.encoder
    table = tiny.model.decoder.get_input_embeddings().weight
    word = tiny.tokenizer.encode("Silence", add_special_tokens=False).ids
    torch.testing.assert_close(table[encoder.silence_id], table[word].mean(0))
    assert encoder.stop_id == tiny.tokenizer.token_to_id("<|im_end|>")
    assert len(table) % 64 == 0 or len(table) == tiny.model.config.used_vocab


def test_turns_are_the_chat_format(tiny):
    text = tiny.tokenizer.decode(tiny.ids(1)[0].tolist(), skip_special_tokens=False)
    frame = "<|vision_start|>" + "<|image_pad|>" * tiny.model.frame_tokens + "<|vision_end|>"
    assert text == (
        f"<|im_start|>system\n{tiny.stream_format.system_prompt}<|im_end|>\n"
        "<|im_start|>user\nTell me when.<|im_end|>\n"
        f"<|im_start|>user\n<0s-1s>{frame}<|im_end|>\n"
        "<|im_start|>assistant\n</Silence><|im_end|>"
    )


def test_a_tower_that_changed_is_refused(tiny, tmp_path):
    tiny.vision.file.write_bytes(tiny.vision.file.read_bytes() + b"0")
    with pytest.raises(ValueError, match="sha256"):
        tiny.vision.prepare(tmp_path)


@pytest.mark.parametrize("picture", [(100, 112), (0, 112)])
def test_a_picture_that_is_no_multiple_of_a_token_is_refused(tiny, picture):
    from dataclasses import replace

    with pytest.raises(ValueError, match="multiples of"):
        replace(tiny.model.config, picture=picture)


def test_a_folder_of_transformers_becomes_a_base_to_train_from(tiny, tmp_path):
    source = tmp_path / "hub"
    tiny.whole.save_pretrained(source)
    PreTrainedTokenizerFast(tokenizer_object=chat_tokenizer()).save_pretrained(source)
    tiny.processor.save_pretrained(source)
    make_qwen(tmp_path / "base", str(source), tiny.model.config.picture)
    loaded = load_checkpoint(tmp_path / "base")
    assert loaded.stream_format == tiny.stream_format
    loaded.model.vision.prepare(tmp_path)
    features = torch.from_numpy(loaded.model.vision.load(tmp_path)(tiny.pictures()).astype(np.float32))
    with torch.no_grad():
        found = loaded.model.float()(tiny.ids(), features, tiny.encoder.image_id)
        expected = tiny.model(tiny.ids(), tiny.features(tiny.pictures(), tmp_path), tiny.encoder.image_id)
    assert (found.argmax(-1) == expected.argmax(-1)).float().mean() > 0.9  # stored as bfloat16


def test_another_kind_of_model_is_refused_in_words(tmp_path):
    LlamaConfig(num_hidden_layers=1).save_pretrained(tmp_path / "hub")
    with pytest.raises(BackboneError, match="llama"):
        make_qwen(tmp_path / "base", str(tmp_path / "hub"), (112, 112))
    with pytest.raises(BackboneError, match="nowhere"):
        make_qwen(tmp_path / "base", str(tmp_path / "nowhere"), (112, 112))
