"""From annotations to batches: target times, timelines, ids and labels, features, order."""

import logging
from dataclasses import replace

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.metric.annotations import Annotation, Answer, Query
from edge_runtime.bundle.stream_format import TurnEncoder
from train.data.encode import IGNORE, OffsetSampling, TimelineEncoder, shift_time_spans
from train.data.features import FeatureCache, FeatureError, read_frames
from train.data.targets import target_time
from train.data.timeline import MIXED, around, build_timeline, chunks, cut, merge


def question(task="EU", query_time=0.0, answers=(), **keys):
    return Annotation("q", "clip.mp4", 10.0, task, Query(query_time, "What?"), tuple(answers), **keys)


def numbering(encoder, queries=4):
    """The encoder, of a stream format that numbers queries."""
    return TurnEncoder(replace(encoder.stream_format, queries_per_session=queries), encoder._encode)


# Target times


@pytest.mark.parametrize(
    ("task", "start", "end", "due"),
    [
        ("EU", 3.2, 7.5, 7),  # the last timestep within the event
        ("EU", 3.0, 7.0, 7),
        ("TP", 3.0, 4.9, 5),  # 4 is within, but not yet 60 % through
        ("TP", 3.2, 3.8, 4),  # no timestep within at all
        ("EC", 3.2, 7.5, 8),
        ("AC", 3.0, 4.0, 4),
        ("OU", 3.0, 3.0, 4),
        ("OU", 3.4, 3.4, 4),
        ("AA", 3.97, 5.0, 5),  # too late for the frame of 4
        ("TG", 3.0, 7.0, 8),
        ("TG", 3.0, 7.2, 8),
        ("GP", 7.0, 9.0, 7),
        ("GP", 7.9, 9.0, 7),  # never late
        ("RF", 9.0, 10.0, 6),
        ("RF", 9.3, 10.0, 7),
    ],
)
def test_target_time(task, start, end, due):
    assert target_time(task, 0.0, Answer(start, end, "x")) == due


def test_target_time_is_never_before_the_query_is_in_force():
    assert target_time("GP", 4.3, Answer(4.3, 6.0, "x")) == 5.0
    assert target_time("RF", 4.0, Answer(5.0, 6.0, "x")) == 4.0
    assert target_time("GP", 0.0, Answer(0.0, 6.0, "x")) == 1.0


def test_target_time_at_another_rate():
    assert target_time("OU", 0.0, Answer(3.2, 3.2, "x"), fps=2.0) == 3.5
    assert target_time("TG", 0.0, Answer(1.0, 3.5, "x"), fps=2.0) == 4.0


def test_unknown_task_is_refused():
    with pytest.raises(ValueError, match="EU, OU"):
        target_time("XX", 0.0, Answer(0, 1, "x"))


# Timelines


def test_timeline_places_query_and_responses():
    answers = [Answer(5.0, 6.0, "Later."), Answer(1.0, 3.0, "First.")]
    timeline = build_timeline(question(query_time=1.5, answers=answers), range(8), 1.0)
    assert timeline.query_turn == 1  # ends at 2
    assert timeline.responses == {2: "First.", 5: "Later."}
    assert timeline.lost == 0


def test_answers_due_together_are_joined_and_late_ones_lost():
    answers = [Answer(2.0, 3.2, "B."), Answer(1.0, 3.0, "A."), Answer(9.0, 12.0, "C.")]
    timeline = build_timeline(question("EC", answers=[*answers, Answer(2.5, 3.9, "D.")]), range(8), 1.0)
    assert timeline.responses == {2: "A.", 3: "B. D."}
    assert timeline.lost == 1


def test_a_gap_in_the_video_moves_the_answer_to_the_next_frame():
    timeline = build_timeline(question("EC", query_time=2.0, answers=[Answer(1, 3, "A.")]), [0, 4, 5], 1.0)
    assert (timeline.query_turn, timeline.responses) == (1, {1: "A."})


def test_a_query_after_the_video_is_never_in_force():
    assert build_timeline(question(query_time=20.0), range(3), 1.0).query_turn == 3


# Several questions about one clip


def test_questions_of_one_clip_make_one_timeline():
    first = build_timeline(question("EC", 0.0, [Answer(1, 2, "A."), Answer(3, 4, "B.")]), range(8), 1.0)
    second = build_timeline(
        question("TG", 2.5, [Answer(1, 3, "1s-3s"), Answer(4, 5, "4s-5s")]), range(8), 1.0
    )
    same = build_timeline(question("EC", 1.0, [Answer(3, 4, "B."), Answer(9, 12, "C.")]), range(8), 1.0)
    merged = merge([second, first, same], (1, 2, 4))
    assert merged.queries == ((0, "What?"), (0, "What?"), (2, "What?")) and merged.numbers == (1, 2, 4)
    assert merged.responses == {1: "1: A.", 3: "1: B.\n2: B.\n4: 1s-3s", 5: "4: 4s-5s"}
    assert merged.grounding == {3, 5} and merged.lost == 1 and merged.task == MIXED
    assert merged.query_turn == 0
    assert merge([first, same], (2, 3)).task == "EC"
    late = cut(merge([second, first], (1, 3)), 0, 2)
    assert late.queries == ((0, "What?"),) and late.numbers == (1,)  # the other comes after the chunk


# Clips longer than the window


@given(turns=st.integers(1, 700), most=st.integers(2, 250))
def test_chunks_teach_every_turn_once_and_are_no_longer_than_allowed(turns, most):
    timeline = build_timeline(question(), range(turns), 1.0)
    taught = []
    for first in chunks(turns, most):
        chunk = cut(timeline, first, most)
        assert chunk is not None and len(chunk.timesteps) <= most
        assert not first or chunk.supervised_from >= most // 2  # what came before is there to be seen
        taught += chunk.timesteps[chunk.supervised_from :]
    assert taught == list(range(turns))


def test_a_piece_keeps_its_queries_and_its_answers():
    answers = [Answer(1, 2, "A."), Answer(10, 12, "B."), Answer(30, 31, "C.")]
    timeline = build_timeline(question("EC", 5.5, answers), range(40), 1.0)
    assert chunks(40, 16) == [0, 8, 16, 24]
    assert cut(timeline, 0, 16).queries == ((5, "What?"),)
    chunk = cut(timeline, 8, 16)
    assert chunk.queries == ((0, "What?"),)  # where the runtime's window keeps it: right after the prompt
    assert chunk.timesteps == tuple(range(8, 24)) and chunk.responses == {3: "B."}
    assert chunk.supervised_from == 8
    late = build_timeline(question("EC", 20.0, [Answer(30, 31, "C.")]), range(40), 1.0)
    assert cut(late, 0, 16) is None  # nobody has asked yet


@given(turns=st.integers(2, 60), most=st.integers(2, 20), seed=st.integers(0, 99), data=st.data())
def test_a_piece_around_an_event_has_it_in_its_later_half(turns, most, seed, data):
    events = data.draw(st.sets(st.integers(0, turns - 1)))
    own = data.draw(st.sets(st.sampled_from(sorted(events)))) if events else set()
    timeline = build_timeline(
        question("EC", answers=[Answer(float(k), k + 1.0, "x") for k in own]), range(turns), 1.0
    )
    found = around(timeline, events, most, np.random.default_rng(seed))
    assert len(found) == bool(events)
    for first in found:
        assert 0 <= first <= max(0, turns - most)
        later = range(first + most - most // 2 if first else 0, first + most)
        assert any(turn in later for turn in events)


# Ids and labels


def test_two_hundred_turns_with_a_query_in_the_middle(encoder):
    answers = [Answer(130, 140, "The cat enters."), Answer(199, 200, "The cat enters.")]
    timeline = build_timeline(question("EC", 120.3, answers), range(200), 1.0)
    encoded = TimelineEncoder(encoder).encode(timeline)
    query = encoder.query_ids("What?")
    at = next(i for i in range(len(encoded.input_ids)) if encoded.input_ids[i : i + len(query)] == query)
    before = encoder.prefix_ids() + [
        i for k in range(120) for i in encoder.turn_ids(k) + encoder.silence_ids()
    ]
    assert encoded.input_ids[:at] == before
    assert encoded.input_ids[at:][len(query) :][: len(encoder.turn_ids(120))] == encoder.turn_ids(120)
    assert set(encoded.labels[:at]) == {IGNORE}
    assert encoded.labels.count(encoder.silence_id) == 78 and encoded.labels.count(encoder.response_id) == 2
    assert encoded.input_ids.count(encoder.image_id) == 200 * encoder.stream_format.frame_tokens


def test_queries_stand_before_their_turns_and_only_time_spans_are_shifted(encoder):
    events = build_timeline(question("EC", 0.0, [Answer(0, 1, "1s-2s")]), range(3), 1.0)
    grounding = build_timeline(question("TG", 1.5, [Answer(0, 1, "0s-1s")]), range(3), 1.0)
    encoder = numbering(encoder)
    encoded = TimelineEncoder(encoder).encode(merge([grounding, events], (2, 3)), offset=10)
    expected = encoder.prefix_ids() + encoder.query_ids("What?", 2) + encoder.turn_ids(10)
    expected += encoder.response_ids("2: 1s-2s")
    expected += encoder.query_ids("What?", 3) + encoder.turn_ids(11) + encoder.response_ids("3: 10s-11s")
    expected += encoder.turn_ids(12) + encoder.silence_ids()
    assert encoded.input_ids == expected


def test_answers_due_together_are_lines_of_one_supervised_response(encoder):
    encoder = numbering(encoder)
    asked = [build_timeline(question("EC", answers=[Answer(0, 1, t)]), range(2), 1.0) for t in ("A.", "B.")]
    encoded = TimelineEncoder(encoder).encode(merge(asked, (1, 2)))
    words = encoder.response_ids("1: A.\n2: B.")
    supervised = [label for label in encoded.labels if label != IGNORE]
    assert supervised == [*words, encoder.silence_id]
    assert len(words) == len(encoder.response_ids("1: A. 2: B."))  # the break is a token as the space was


def test_a_response_that_is_only_to_be_seen_is_not_supervised(encoder):
    timeline = build_timeline(
        question("EC", 0.0, [Answer(k, k + 1, "Now.") for k in range(8)]), range(8), 1.0
    )
    encoded = TimelineEncoder(encoder).encode(cut(timeline, 2, 4))
    assert encoded.input_ids.count(encoder.response_id) == 4
    assert encoded.labels.count(encoder.response_id) == 2


def test_ids_and_labels_follow_the_runtime_layout(encoder):
    annotation = question("EC", query_time=1.5, answers=[Answer(1, 3, "The cat enters.")])
    encoded = TimelineEncoder(encoder).encode(build_timeline(annotation, range(4), 1.0))
    parts = [
        (encoder.prefix_ids(), False),
        (encoder.turn_ids(0), False),
        (encoder.silence_ids(), False),  # before the query: only watching
        (encoder.query_ids("What?"), False),
        (encoder.turn_ids(1), False),
        (encoder.silence_ids(), True),
        (encoder.turn_ids(2), False),
        (encoder.response_ids("The cat enters."), True),
        (encoder.turn_ids(3), False),
        (encoder.silence_ids(), True),
    ]
    assert encoded.input_ids == [i for ids, _ in parts for i in ids]
    assert encoded.labels == [i if supervised else IGNORE for ids, supervised in parts for i in ids]


def test_offset_shifts_labels_and_grounding_answers_only(encoder):
    spans = [Answer(1, 2, "1s-2s")]
    grounding = build_timeline(question("TG", answers=spans), range(4), 1.0)
    encoded = TimelineEncoder(encoder).encode(grounding, offset=100)
    expected = encoder.prefix_ids() + encoder.query_ids("What?")
    for k in (100, 101):
        expected += encoder.turn_ids(k) + encoder.silence_ids()
    expected += encoder.turn_ids(102) + encoder.response_ids("101s-102s")
    expected += encoder.turn_ids(103) + encoder.silence_ids()
    assert encoded.input_ids == expected
    event = build_timeline(question("EC", answers=spans), range(4), 1.0)
    told = encoder.response_ids("1s-2s")
    shifted = TimelineEncoder(encoder).encode(event, offset=100).input_ids
    assert any(shifted[i : i + len(told)] == told for i in range(len(shifted)))


def test_shift_time_spans():
    assert shift_time_spans("From 12s-19.5s, 3 cats", 100) == "From 112s-119.5s, 3 cats"


def test_offsets_follow_their_shares_and_their_seed():
    drawn = [OffsetSampling().draw(1, i) for i in range(4000)]
    assert drawn == [OffsetSampling().draw(1, i) for i in range(4000)]
    assert drawn.count(0) / 4000 == pytest.approx(0.6, abs=0.03)
    assert sum(offset > 200 for offset in drawn) / 4000 == pytest.approx(0.1, abs=0.02)
    assert 15000 < max(drawn) <= 20000


def test_offset_shares_beyond_one_are_refused():
    with pytest.raises(ValueError, match="shares"):
        OffsetSampling(zero=0.8, near=0.3)


# Features


def write_clip(path, seconds=3, fps=2, size=(224, 224)):
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=fps)
        stream.width, stream.height, stream.pix_fmt = size[1], size[0], "yuv420p"
        for i in range(seconds * fps + 1):  # one more: the frame that closes the last interval
            picture = np.full((*size, 3), 20 * i + 20, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))
    return path


def test_frames_are_those_that_close_their_interval(tmp_path):
    frames = list(read_frames(write_clip(tmp_path / "a.mp4"), 1.0))
    assert [timestep for timestep, _ in frames] == [0, 1, 2]
    assert [round(picture.mean() / 20) for _, picture in frames] == [3, 5, 7]  # frames at 1, 2 and 3 s


def test_other_sizes_are_letterboxed(tmp_path):
    _, picture = next(read_frames(write_clip(tmp_path / "a.mp4", size=(120, 240)), 1.0))
    assert picture.shape == (224, 224, 3)
    assert picture[:50].max() == 0 and picture[112].mean() > 40


@pytest.mark.slow
def test_features_are_computed_once_and_bad_clips_are_named(tmp_path, caplog):
    caplog.set_level(logging.ERROR)
    good = [write_clip(tmp_path / "a.mp4"), write_clip(tmp_path / "b.mp4", size=(120, 240))]
    (tmp_path / "noise.mp4").write_bytes(b"no video at all")
    cache = FeatureCache(tmp_path / "cache", workers=1)
    with pytest.raises(FeatureError, match=r"(?s)noise\.mp4.*gone\.mp4|gone\.mp4.*noise\.mp4"):
        cache.ensure([*good, tmp_path / "noise.mp4", tmp_path / "gone.mp4"])
    clip = cache.load(good[0])
    assert clip.features.shape == (3, 320, 7, 7) and clip.features.dtype == np.float16
    assert clip.timesteps == (0, 1, 2)
    written = cache.path(good[0]).stat().st_mtime_ns
    cache.ensure(good)
    assert cache.path(good[0]).stat().st_mtime_ns == written
    assert not list((tmp_path / "cache").rglob("*.tmp"))


def test_key_follows_content_and_rate_not_name(tmp_path):
    for name, data in (("a", b"1"), ("b", b"1"), ("c", b"2")):
        (tmp_path / name).write_bytes(data)
    cache = FeatureCache(tmp_path)
    assert cache.key(tmp_path / "a") == cache.key(tmp_path / "b") != cache.key(tmp_path / "c")
    assert FeatureCache(tmp_path, fps=2.0).key(tmp_path / "a") != cache.key(tmp_path / "a")


def test_features_never_computed_are_an_error(tmp_path):
    (tmp_path / "a").write_bytes(b"1")
    with pytest.raises(FeatureError, match="no features"):
        FeatureCache(tmp_path).load(tmp_path / "a")
