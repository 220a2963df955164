"""From annotations to batches: target times, timelines, ids and labels, features, order."""

import json
import logging

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.metric.annotations import Annotation, Answer, FormatError, Query
from edge_runtime.bundle.stream_format import StreamFormat, TurnEncoder
from train.data.dataset import Collator, Source, TrajectoryDataset
from train.data.encode import IGNORE, OffsetSampling, TimelineEncoder, shift_time_spans
from train.data.features import FeatureCache, FeatureError, read_frames, write_features
from train.data.targets import target_time
from train.data.timeline import around, build_timeline, chunks, cut, merge
from train.models.tokenizer import train_tokenizer


@pytest.fixture(scope="module")
def encoder():
    tokenizer = train_tokenizer(["The cat enters."], 1300)
    stream_format = StreamFormat(system_prompt="Watch.")
    return TurnEncoder(stream_format, lambda text: tokenizer.encode(text, add_special_tokens=False).ids)


def question(task="EU", query_time=0.0, answers=(), **keys):
    return Annotation("q", "clip.mp4", 10.0, task, Query(query_time, "What?"), tuple(answers), **keys)


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
    merged = merge([second, first, same])
    assert merged.queries == ((0, "What?"), (0, "What?"), (2, "What?"))
    assert merged.responses == {1: "A.", 3: "B. 1s-3s", 5: "4s-5s"}  # told once, though two questions ask it
    assert merged.grounding == {3, 5} and merged.lost == 1 and merged.task == "EC+TG"
    assert merged.query_turn == 0


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
    encoded = TimelineEncoder(encoder).encode(merge([grounding, events]), offset=10)
    expected = encoder.prefix_ids() + encoder.query_ids("What?") + encoder.turn_ids(10)
    expected += encoder.response_ids("1s-2s")
    expected += encoder.query_ids("What?") + encoder.turn_ids(11) + encoder.response_ids("10s-11s")
    expected += encoder.turn_ids(12) + encoder.silence_ids()
    assert encoded.input_ids == expected


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


# Order and batches


def fill(folder, name, count, cache, timesteps=4):
    """An annotation file over clips whose features lie in the cache already."""
    lines = []
    for i in range(count):
        clip = folder / f"{name}{i}.mp4"
        clip.write_bytes(f"{name}{i}".encode())
        array = np.full((timesteps, 320, 7, 7), i, np.float16)
        write_features(cache.path(clip), clip.name, 1.0, range(timesteps), array)
        query = {"time": 0.0, "text": "What?"}
        answer = {"start": 1.0, "end": 2.0, "text": "The cat enters."}
        record = {"id": f"{name}{i}", "video": clip.name, "duration": 4.0 + i, "task": "EU"}
        lines.append(json.dumps({**record, "query": query, "answers": [answer]}))
    (folder / f"{name}.jsonl").write_text("\n".join(lines))
    return folder / f"{name}.jsonl"


@pytest.fixture
def corpus(tmp_path):
    cache = FeatureCache(tmp_path / "cache")
    return cache, fill(tmp_path, "a", 6, cache), fill(tmp_path, "b", 4, cache, timesteps=3)


def order(dataset):
    return [dataset[i]["id"] for i in range(len(dataset))]


def test_mixture_follows_its_weights_in_every_epoch(corpus, encoder):
    cache, a, b = corpus
    sources = [Source(a, 1.5), Source(b, 0.5)]
    dataset = TrajectoryDataset(sources, cache, TimelineEncoder(encoder), epochs=3, batch_size=2)
    assert len(dataset) == 3 * (9 + 2)
    for epoch in range(3):
        ids = order(dataset)[11 * epoch : 11 * (epoch + 1)]
        assert {f"a{i}" for i in range(6)} <= set(ids)
        assert sum(name.startswith("a") for name in ids) == 9


def test_a_source_may_take_some_tasks_only(corpus, encoder):
    cache, a, b = corpus
    a.write_text(a.read_text().replace('"EU"', '"OU"', 2))
    dataset = TrajectoryDataset(
        [Source(a, tasks=("OU",)), Source(b, tasks=("EU", "OU"))],
        cache,
        TimelineEncoder(encoder),
        shuffle=False,
    )
    assert order(dataset) == ["a0", "a1", "b0", "b1", "b2", "b3"]
    assert dataset.tasks == ["EU", "OU"]


def test_long_clips_come_in_chunks_that_teach_each_answer_once(corpus, encoder, tmp_path):
    cache, a, _ = corpus
    long = fill(tmp_path, "long", 1, cache, timesteps=23)
    text = long.read_text().replace('"duration": 4.0', '"duration": 23.0').replace('"EU"', '"EC"')
    answers = [{"start": float(k), "end": k + 1.0, "text": "The cat enters."} for k in (2, 7, 11, 15, 21)]
    record = {**json.loads(text), "answers": answers}
    long.write_text(json.dumps(record))
    options = {"epochs": 2, "batch_size": 2, "max_turns": 8}
    dataset = TrajectoryDataset([Source(a), Source(long)], cache, TimelineEncoder(encoder), **options)
    items = [dataset[i] for i in range(len(dataset))]
    assert all(len(item["features"]) <= 8 for item in items)
    image, response = encoder.image_id, encoder.response_id
    for item in items:
        assert item["input_ids"].count(image) == len(item["features"]) * encoder.stream_format.frame_tokens
    of_long = [item for item in items if item["id"] == "long0"]
    assert len(of_long) == 2 * len(chunks(23, 8))
    assert sum(item["labels"].count(response) for item in of_long) == 2 * len(answers)


def test_chunks_around_events_hold_one_and_are_half_about_other_questions(corpus, encoder, tmp_path):
    cache, *_ = corpus
    mine = fill(tmp_path, "mine", 1, cache, timesteps=40)
    record = {**json.loads(mine.read_text()), "duration": 40.0, "task": "EC"}
    told = {"asked": (9, 30), "other": (16, 22, 35), "quiet": ()}
    lines = []
    for name, ends in told.items():
        answers = [{"start": k - 1.0, "end": float(k), "text": "The cat enters."} for k in ends]
        lines.append(json.dumps({**record, "id": name, "answers": answers}))
    mine.write_text("\n".join(lines))
    dataset = TrajectoryDataset(
        [Source(mine)], cache, TimelineEncoder(encoder), epochs=60, max_turns=8, around_events=True
    )
    items = [dataset[i] for i in range(len(dataset))]
    assert len(items) == 3 * 60 and all(len(item["features"]) == 8 for item in items)
    responses = {
        name: [item["labels"].count(encoder.response_id) for item in items if item["id"] == name]
        for name in told
    }
    assert set(responses["quiet"]) == {0}
    for name in ("asked", "other"):
        assert 15 < sum(n > 0 for n in responses[name]) < 45


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


def test_several_questions_of_a_clip_share_a_trajectory(corpus, encoder, tmp_path):
    cache, a, b = corpus
    lines = [json.loads(line) for line in a.read_text().splitlines()]
    more = [{**line, "id": f"{line['id']}-{k}"} for line in lines for k in range(3)]
    a.write_text("\n".join(json.dumps(line) for line in more))
    options = {"epochs": 2, "batch_size": 2, "questions_per_clip": 2, "seed": 1}
    dataset = TrajectoryDataset([Source(a, 2.0), Source(b)], cache, TimelineEncoder(encoder), **options)
    ids = order(dataset)
    # 36 questions on a's clips, nearly all in pairs (never with themselves), four clips of b with one each
    assert 2 * (18 + 4) <= len(ids) <= 2 * (18 + 4) + 8
    for name in ids:
        parts = name.split(" + ")
        assert len(set(parts)) == len(parts) <= 2 and len({part.split("-")[0] for part in parts}) == 1
    drawn = sorted(part for name in ids for part in name.split(" + "))
    assert drawn == sorted([line["id"] for line in more] * 4 + [f"b{i}" for i in range(4)] * 2)
    pair = next(dataset[i] for i, name in enumerate(ids) if " + " in name)
    query = encoder.query_ids("What?")
    assert sum(pair["input_ids"][i : i + len(query)] == query for i in range(len(pair["input_ids"]))) == 2
    again = TrajectoryDataset([Source(a, 2.0), Source(b)], cache, TimelineEncoder(encoder), **options)
    assert order(again) == ids


def test_order_is_fixed_by_the_seed_and_shuffled(corpus, encoder):
    cache, a, _ = corpus

    def made(seed):
        return TrajectoryDataset(
            [Source(a)], cache, TimelineEncoder(encoder), epochs=2, batch_size=2, seed=seed
        )

    assert order(made(1)) == order(made(1)) != order(made(2))
    assert order(made(1))[:6] != order(made(1))[6:]


def test_batches_hold_like_lengths(corpus, encoder):
    cache, a, _ = corpus
    dataset = TrajectoryDataset([Source(a)], cache, TimelineEncoder(encoder), batch_size=2, seed=3)
    numbers = [int(name[1:]) for name in order(dataset)]
    assert sorted(tuple(sorted(numbers[i : i + 2])) for i in (0, 2, 4)) == [(0, 1), (2, 3), (4, 5)]


def test_validation_keeps_the_order_of_the_file(corpus, encoder):
    cache, a, b = corpus
    dataset = TrajectoryDataset([Source(b), Source(a)], cache, TimelineEncoder(encoder), shuffle=False)
    assert order(dataset) == [f"b{i}" for i in range(4)] + [f"a{i}" for i in range(6)]
    assert dataset.tasks == ["EU"]


def test_collator_pads_right_and_joins_frames_row_by_row(corpus, encoder):
    cache, a, b = corpus
    dataset = TrajectoryDataset([Source(b), Source(a)], cache, TimelineEncoder(encoder), shuffle=False)
    short, long = dataset[1], dataset[6]  # b1 has three timesteps, a2 four
    batch = Collator(pad_id=0)([short, long])
    n = len(short["input_ids"])
    assert batch["input_ids"].shape == batch["labels"].shape == (2, len(long["input_ids"]))
    assert batch["input_ids"][0, :n].tolist() == short["input_ids"]
    assert set(batch["input_ids"][0, n:].tolist()) == {0} and set(batch["labels"][0, n:].tolist()) == {IGNORE}
    assert batch["features"].shape == (7, 320, 7, 7)
    assert batch["features"][:, 0, 0, 0].tolist() == [1] * 3 + [2] * 4
    assert batch["ids"] == ["b1", "a2"]


def test_an_unusable_annotation_names_file_and_line(corpus, encoder):
    cache, a, _ = corpus
    a.write_text(a.read_text().replace('"duration": 5.0', '"duration": NaN'))
    with pytest.raises(FormatError, match=r"a\.jsonl, line 2"):
        TrajectoryDataset([Source(a)], cache, TimelineEncoder(encoder))
