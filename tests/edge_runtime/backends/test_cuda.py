"""The real cuda-python, without a GPU: its calls take the arguments they are given, and end in one line."""

from __future__ import annotations

import numpy as np
import pytest

runtime = pytest.importorskip("cuda.bindings.runtime")

from edge_runtime.backends.tensorrt.cuda import Cuda  # noqa: E402
from edge_runtime.errors import BackendError  # noqa: E402

if runtime.cudaGetDeviceCount()[0] == 0:
    pytest.skip("wild addresses below: for machines without a GPU only", allow_module_level=True)

ADDRESS, ARRAY = 4096, np.zeros(4, np.float32)


@pytest.fixture
def cuda():
    """What is tested is past the examination of the device, which fails here."""
    cuda = object.__new__(Cuda)
    cuda._runtime = runtime
    return cuda


def test_no_gpu_is_one_line():
    with pytest.raises(BackendError, match=r"GPU: (no NVIDIA driver|none was found)"):
        Cuda.load()


@pytest.mark.parametrize(
    "call",
    [
        lambda cuda: cuda.memory(),
        lambda cuda: cuda.allocate(64),
        lambda cuda: cuda.allocate_host((4,), np.float32),
        lambda cuda: cuda.stream(),
        lambda cuda: cuda.synchronize(0),
        lambda cuda: cuda.copy_in(ADDRESS, ARRAY, 0),
        lambda cuda: cuda.copy_out(ARRAY, ADDRESS, 0),
        lambda cuda: cuda.copy_strided(ADDRESS, 16, ADDRESS, 16, 8, 2, 0),
        lambda cuda: cuda.capture(0, lambda: None),
        lambda cuda: cuda.launch(0, 0),
    ],
)
def test_every_call_takes_its_arguments(cuda, call):
    with pytest.raises(BackendError, match=r"^GPU: ") as caught:
        call(cuda)
    assert "\n" not in str(caught.value)
