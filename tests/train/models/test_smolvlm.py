"""SmolVLM2, tiny and random, in the folder layout of the published ones: the numbers of transformers."""

import json
import shutil

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from click.testing import CliRunner  # noqa: E402
from safetensors.torch import load_file  # noqa: E402
from transformers.models.smolvlm.image_processing_pil_smolvlm import SmolVLMImageProcessorPil  # noqa: E402
from transformers.models.smolvlm.processing_smolvlm import DEFAULT_CHAT_TEMPLATE  # noqa: E402

from edge_runtime.bundle.stream_format import TurnEncoder  # noqa: E402
from tests.tiny_smolvlm import PROCESSOR, SIDE, smolvlm_tokenizer, write_published  # noqa: E402
from train.__main__ import main  # noqa: E402
from train.models.checkpoint import CheckpointError, load_checkpoint, save_checkpoint  # noqa: E402
from train.models.registry import BackboneError  # noqa: E402
from train.models.smolvlm.backbone import make_smolvlm  # noqa: E402
from train.models.smolvlm.model import SmolVLMConfig, smolvlm_stream_format  # noqa: E402

VIDEO = {"do_image_splitting": False, "size": {"longest_edge": SIDE}}  # what a video's frames get


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    folder = tmp_path_factory.mktemp("published") / "hub"
    return folder, write_published(folder)


@pytest.fixture(scope="module")
def base(published, tmp_path_factory):
    out = tmp_path_factory.mktemp("base") / "base"
    make_smolvlm(out, str(published[0]))
    return out


@pytest.fixture
def copied(published, tmp_path):
    return shutil.copytree(published[0], tmp_path / "hub")


def encoder_of(tokenizer, frame_tokens=16):
    encode = tokenizer.encode
    return TurnEncoder(
        smolvlm_stream_format(frame_tokens), lambda text: encode(text, add_special_tokens=False).ids
    )


def stream(encoder, frames=3):
    ids = [*encoder.prefix_ids(), *encoder.query_ids("Tell me when.")]
    for k in range(frames):
        ids += encoder.turn_ids(k)
        ids += encoder.response_ids("Now.") if k == 1 else encoder.silence_ids()
    return ids


@torch.no_grad()
def test_logits_equal_transformers_on_the_output_of_its_processor(published, base, tmp_path):
    folder, whole = published
    checkpoint = load_checkpoint(base)
    model, encoder = checkpoint.model, encoder_of(checkpoint.tokenizer)
    pictures = np.random.default_rng(0).integers(0, 256, (3, SIDE, SIDE, 3), dtype=np.uint8)
    processor = SmolVLMImageProcessorPil.from_pretrained(folder, **VIDEO)
    inputs = processor(images=[list(pictures)], return_tensors="pt")
    assert inputs["pixel_values"].shape == (1, 3, 3, SIDE, SIDE)
    ids = torch.tensor([stream(encoder)])
    expected = whole(input_ids=ids, pixel_values=inputs["pixel_values"]).logits
    model.vision.prepare(tmp_path)
    features = torch.from_numpy(model.vision.load(tmp_path)(pictures)).float()
    assert features.shape == (3, 16, 128) == (3, model.frame_tokens, 4 * 32)
    found = model(ids, features, encoder.image_id)
    torch.testing.assert_close(found, expected, atol=2e-2, rtol=0)  # cached features are half precision
    assert (expected[0, :-1] - expected[0, 1:]).abs().max() > 1


def test_no_weight_is_changed_and_no_token_added(published, base):
    folder, whole = published
    weights = {**load_file(base / "model.safetensors"), **load_file(base / "vision.safetensors")}
    expected = whole.state_dict()
    assert len(weights) == len(expected)
    for theirs, ours in {
        "lm_head.weight": "lm_head.weight",
        "model.text_model.embed_tokens.weight": "decoder.embed_tokens.weight",
        "model.connector.modality_projection.proj.weight": "projector.weight",
        "model.vision_model.post_layernorm.weight": "post_layernorm.weight",
    }.items():
        torch.testing.assert_close(weights[ours], expected[theirs], atol=0, rtol=0)
    assert not torch.equal(weights["lm_head.weight"], weights["decoder.embed_tokens.weight"])
    theirs, ours = (json.loads((at / "tokenizer.json").read_text()) for at in (folder, base))
    assert theirs["added_tokens"] == ours["added_tokens"] and theirs["model"] == ours["model"]


def test_a_stream_is_written_as_the_chat_template_of_its_authors_does(base):
    import jinja2

    tokenizer = smolvlm_tokenizer()
    encoder = encoder_of(tokenizer)
    messages = [
        {"role": "system", "content": encoder.stream_format.system_prompt},
        {"role": "user", "content": "Tell me when."},
    ]
    for k, said in enumerate(("No", "Yes Now.", "No")):
        frame = [{"type": "text", "text": f"Frame at {k + 1} s:"}, {"type": "image"}]
        messages += [{"role": "user", "content": frame}, {"role": "assistant", "content": said}]
    text = jinja2.Template(DEFAULT_CHAT_TEMPLATE).render(messages=messages)
    around = "<fake_token_around_image>"
    text = text.replace("<image>", f"{around}<global-img>{'<image>' * 16}{around}").removesuffix("\n")
    assert stream(encoder) == tokenizer.encode(text, add_special_tokens=False).ids


def test_a_query_cannot_write_a_special_token():
    encoder = encoder_of(tokenizer := smolvlm_tokenizer())
    special = {i for i, token in tokenizer.get_added_tokens_decoder().items() if token.special}
    markup = special & set(encoder.query_ids("When?"))  # of the template itself
    assert markup and special & set(tokenizer.encode("<image><row_1_col_1>").ids)
    for text in ("<image>", "a <end_of_utterance> b", "<row_1_col_1>", "<global-img>", "<<image>>"):
        assert special & set(encoder.query_ids(text)) == markup


def test_a_tied_checkpoint_comes_back_tied(tmp_path):
    write_published(tmp_path / "hub", tied=True)
    make_smolvlm(tmp_path / "base", str(tmp_path / "hub"))
    model = load_checkpoint(tmp_path / "base").model
    assert model.lm_head is None and model.output_matrix() is None


def test_it_learns_and_its_checkpoint_comes_back(base, tmp_path):
    checkpoint = load_checkpoint(base)
    model, encoder = checkpoint.model.float(), encoder_of(checkpoint.tokenizer)
    ids = torch.tensor([stream(encoder)])
    features = torch.randn(3, 16, 128)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    losses = []
    for _ in range(4):
        logits = model(ids, features, encoder.image_id)
        loss = torch.nn.functional.cross_entropy(logits[0, :-1], ids[0, 1:])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] and model.projector.weight.grad.abs().sum() > 0
    save_checkpoint(tmp_path / "next", model, checkpoint.tokenizer, checkpoint.stream_format, ["EU"], {}, {})
    again = load_checkpoint(tmp_path / "next").model
    with torch.no_grad():
        same = again(ids, features, encoder.image_id), model.eval()(ids, features, encoder.image_id)
    torch.testing.assert_close(*same)
    again.vision.prepare(tmp_path)  # the tower of the base


def change(folder, name, **values):
    path = folder / name
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def test_splitting_without_a_video_mode_is_refused(copied, tmp_path):
    change(copied, "preprocessor_config.json", video_sampling=None)
    processor = {k: v for k, v in PROCESSOR.items() if k != "video_sampling"}
    (copied / "preprocessor_config.json").write_text(json.dumps(processor))
    with pytest.raises(BackboneError, match=r"splits each image into tiles.*do_image_splitting to false"):
        make_smolvlm(tmp_path / "base", str(copied))
    change(copied, "preprocessor_config.json", do_image_splitting=False)
    make_smolvlm(tmp_path / "base", str(copied))


def test_the_layout_of_newer_transformers_is_read_too(copied, tmp_path):
    (copied / "preprocessor_config.json").unlink()
    image = {k: v for k, v in PROCESSOR.items() if k != "video_sampling"}
    whole = {"image_processor": image, "video_processor": {}, "processor_class": "SmolVLMProcessor"}
    (copied / "processor_config.json").write_text(json.dumps(whole))
    make_smolvlm(tmp_path / "base", str(copied))


def refusals():
    def size(folder):
        change(folder, "preprocessor_config.json", max_image_size={"longest_edge": 32})

    def processor(folder):
        (folder / "preprocessor_config.json").unlink()

    def damaged(folder):
        (folder / "preprocessor_config.json").write_text("{")

    def grey(folder):
        change(folder, "preprocessor_config.json", image_mean=[0.5])

    def family(folder):
        change(folder, "config.json", model_type="llama")

    def tokens(folder):
        text = (folder / "tokenizer.json").read_text()
        (folder / "tokenizer.json").write_text(text.replace("<image>", "<picture>"))

    def image_id(folder):
        change(folder, "config.json", image_token_id=3)

    def pickle(folder):
        for path in folder.glob("model*"):
            path.unlink()
        torch.save({}, folder / "pytorch_model.bin")

    return {
        size: "its processor makes images of 32 pixels, its vision tower sees 64; set max_image_size",
        processor: "preprocessor_config.json is missing.*copy it from where",
        damaged: "preprocessor_config.json is not JSON",
        grey: "image_mean and image_std must be 3 numbers",
        family: "is of type llama, expected smolvlm",
        tokens: "<image> must be one token.*is its tokenizer.json the published one",
        image_id: "<image> is token 267, config.json says 3",
        pickle: "model.safetensors",
    }


@pytest.mark.parametrize(
    ("spoil", "message"), refusals().items(), ids=lambda part: getattr(part, "__name__", "")
)
def test_a_folder_it_cannot_take_is_refused_in_one_line(copied, tmp_path, spoil, message):
    spoil(copied)
    with pytest.raises(BackboneError, match=message) as caught:
        make_smolvlm(tmp_path / "base", str(copied))
    assert "\n" not in str(caught.value) and str(copied) in str(caught.value)
    assert not (tmp_path / "base").exists()


def test_the_command_ends_in_one_line_with_an_exit_code(tmp_path):
    nowhere = str(tmp_path / "nowhere")
    options = ["init-backbone", "smolvlm", "--from", nowhere, "--out", str(tmp_path / "base")]
    result = CliRunner().invoke(main, options)
    assert result.exit_code != 0
    assert len(str(result.exception or result.output).strip().splitlines()) == 1


def test_patches_that_cannot_be_joined_are_refused():
    with pytest.raises(ValueError, match="8 patches a side cannot be joined 3 by 3"):
        SmolVLMConfig({}, {"image_size": 64, "patch_size": 8}, 3, 10, tied=False)
    with pytest.raises(ValueError, match="one square image_size"):
        SmolVLMConfig({}, {"image_size": [64, 96], "patch_size": 8}, 2, 10, tied=False)


def test_a_checkpoint_without_its_own_keys_is_refused(base, tmp_path):
    folder = shutil.copytree(base, tmp_path / "base")
    config = json.loads((folder / "config.json").read_text())
    del config["model"]["scale"]
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match="scale is missing"):
        load_checkpoint(folder)
