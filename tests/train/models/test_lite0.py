"""The frozen backbone and its ONNX twin."""

import numpy as np
import pytest
import torch

from train.models.compact import lite0


@pytest.fixture(scope="module")
def backbone():
    return lite0.load_lite0()


@pytest.fixture(scope="module")
def pixels():
    ramp = torch.linspace(0, 255, 224)
    picture = torch.stack(
        [ramp.expand(224, 224), ramp.view(-1, 1).expand(224, 224), torch.full((224, 224), 90.0)]
    )
    return ((picture - lite0.IMAGE_MEAN) / lite0.IMAGE_STD)[None]


def test_features_have_the_documented_shape_and_value(backbone, pixels):
    with torch.no_grad():
        features = backbone.features(pixels)
    assert features.shape == (1, 320, 7, 7)
    # The other padding of this architecture runs without any error and gives other numbers.
    assert features.abs().mean().item() == pytest.approx(1.38348, rel=1e-3)


def test_stays_frozen_and_in_eval_mode_whatever_the_trainer_does(backbone):
    backbone.train()
    assert not any(module.training for module in backbone.modules())
    assert not any(parameter.requires_grad for parameter in backbone.parameters())


def test_another_weight_file_is_refused(monkeypatch):
    monkeypatch.setattr(lite0, "LITE0_SHA256", "0" * 64)
    with pytest.raises(ValueError, match="sha256"):
        lite0.load_lite0()


@pytest.mark.slow
def test_onnx_agrees_at_any_batch_size(backbone, pixels, tmp_path):
    import onnxruntime

    path = tmp_path / "new" / "features.onnx"
    lite0.export_features_onnx(path)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    with torch.no_grad():
        expected = backbone.features(pixels).numpy()
    for n in (1, 3):
        (found,) = session.run(None, {"pixels": np.repeat(pixels.numpy(), n, axis=0)})
        np.testing.assert_allclose(found, np.repeat(expected, n, axis=0), atol=2e-4)
    assert [file.name for file in path.parent.iterdir()] == ["features.onnx"]
