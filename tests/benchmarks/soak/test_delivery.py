"""Nothing is lost while a webhook is away and the process gets SIGKILL; the short form of the soak."""

from __future__ import annotations

import pytest

from benchmarks.soak.delivery import measure, passed


@pytest.mark.slow
@pytest.mark.gst
def test_every_event_arrives_although_the_process_is_killed(tiny_bundle, tmp_path):
    pytest.importorskip("gi")
    result = measure(tmp_path, str(tiny_bundle), down_s=9, kills=2, fps=5)
    assert passed(result), result
    assert result["sigkill"] == 3 and result["waiting_when_back"] >= 10, result
    assert result["distinct"] >= result["events_printed"], result


def test_what_is_missing_or_out_of_order_is_no_pass():
    clean = {"missing": 0, "out_of_order": 0, "wrongly_signed": 0}
    assert passed(clean)
    assert not any(passed({**clean, key: 1}) for key in clean)
