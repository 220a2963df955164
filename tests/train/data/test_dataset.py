"""The order in which training takes trajectories, and batches of them."""

import json
from dataclasses import replace

import numpy as np
import pytest

from benchmarks.metric.annotations import FormatError
from edge_runtime.bundle.stream_format import TurnEncoder
from train.data.dataset import Collator, DatasetOptions, Source, TrajectoryDataset
from train.data.encode import IGNORE, TimelineEncoder
from train.data.features import FeatureCache, write_features
from train.data.timeline import chunks


def made_of(sources, cache, encoder, **options):
    return TrajectoryDataset(sources, cache, TimelineEncoder(encoder), DatasetOptions(**options))


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
    dataset = made_of(sources, cache, encoder, epochs=3, batch_size=2)
    assert len(dataset) == 3 * (9 + 2)
    for epoch in range(3):
        ids = order(dataset)[11 * epoch : 11 * (epoch + 1)]
        assert {f"a{i}" for i in range(6)} <= set(ids)
        assert sum(name.startswith("a") for name in ids) == 9


def test_a_source_may_take_some_tasks_only(corpus, encoder):
    cache, a, b = corpus
    a.write_text(a.read_text().replace('"EU"', '"OU"', 2))
    dataset = made_of(
        [Source(a, tasks=("OU",)), Source(b, tasks=("EU", "OU"))],
        cache,
        encoder,
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
    dataset = made_of([Source(a), Source(long)], cache, encoder, **options)
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
    dataset = made_of([Source(mine)], cache, encoder, epochs=60, max_turns=8, around_events=True)
    items = [dataset[i] for i in range(len(dataset))]
    assert len(items) == 3 * 60 and all(len(item["features"]) == 8 for item in items)
    responses = {
        name: [item["labels"].count(encoder.response_id) for item in items if item["id"] == name]
        for name in told
    }
    assert set(responses["quiet"]) == {0}
    for name in ("asked", "other"):
        assert 15 < sum(n > 0 for n in responses[name]) < 45


@pytest.fixture
def clips_of_five(corpus, encoder):
    """Four clips with five questions each, and an encoder with four numbers."""
    cache, _, b = corpus
    lines = [json.loads(line) for line in b.read_text().splitlines()]
    tasks = ("EU", "OU", "EU", "TP", "OU")
    more = [{**line, "id": f"{line['id']}-{k}", "task": t} for line in lines for k, t in enumerate(tasks)]
    b.write_text("\n".join(json.dumps(line) for line in more))
    stream_format = replace(encoder.stream_format, queries_per_session=4)
    return cache, Source(b), TurnEncoder(stream_format, encoder._encode)


def test_several_questions_of_a_clip_share_a_trajectory(clips_of_five):
    cache, source, encoder = clips_of_five
    options = {"epochs": 30, "batch_size": 2, "queries_per_session": 4, "seed": 1}
    dataset = made_of([source], cache, encoder, **options)
    ids = [name.split(" + ") for name in order(dataset)]
    sizes = {len(parts) for parts in ids}
    assert sizes == {1, 2, 3, 4}  # alone, too: a session may have one query
    for parts in ids:
        assert len(set(parts)) == len(parts) and len({part.split("-")[0] for part in parts}) == 1
    drawn = sorted(part for parts in ids for part in parts)
    assert drawn == sorted(f"b{i}-{k}" for i in range(4) for k in range(5) for _ in range(30))
    assert len(ids[0]) and order(made_of([source], cache, encoder, **options)) == order(dataset)
    epochs = {frozenset(frozenset(parts) for parts in ids[i : i + 6]) for i in range(0, 120, 6)}
    assert len(epochs) > 1  # grouped anew in each


def test_numbers_are_drawn_and_rise_in_the_order_of_asking(clips_of_five):
    cache, source, encoder = clips_of_five
    dataset = made_of([source], cache, encoder, epochs=30, queries_per_session=4, seed=1)
    asked = [encoder.query_ids("What?", n) for n in (1, 2, 3, 4)]
    seen = []
    for i in range(len(dataset)):
        ids = dataset[i]["input_ids"]
        found = [n + 1 for at in range(len(ids)) for n, q in enumerate(asked) if ids[at : at + len(q)] == q]
        assert len(found) == len(dataset[i]["id"].split(" + ")) and found == sorted(set(found))
        seen += found
    assert all(seen.count(n) > len(seen) / 8 for n in (1, 2, 3, 4))


def test_validation_groups_in_file_order(clips_of_five):
    cache, source, encoder = clips_of_five
    dataset = made_of([source], cache, encoder, shuffle=False, queries_per_session=4)
    assert order(dataset)[:3] == ["b0-0 + b0-1 + b0-2 + b0-3", "b0-4", "b1-0 + b1-1 + b1-2 + b1-3"]
    assert [dataset[i]["task"] for i in (0, 1)] == ["mixed", "OU"]
    assert dataset.row_tasks == ["EU", "OU", "TP", "mixed"] and dataset.tasks == ["EU", "OU", "TP"]
    words = encoder.response_ids("\n".join(f"{n}: The cat enters." for n in (1, 2, 3, 4)))
    ids = dataset[0]["input_ids"]
    assert any(ids[at : at + len(words)] == words for at in range(len(ids)))


def test_apart_a_question_keeps_its_number(clips_of_five):
    cache, source, encoder = clips_of_five
    dataset = made_of([source], cache, encoder, shuffle=False)
    assert len(dataset) == 20
    query = encoder.query_ids("What?", 1)
    ids = dataset[0]["input_ids"]
    assert any(ids[at : at + len(query)] == query for at in range(len(ids)))


def test_groups_need_numbers(clips_of_five, encoder):
    cache, source, _ = clips_of_five
    with pytest.raises(ValueError, match="numbers for 1"):
        made_of([source], cache, encoder, queries_per_session=2)


def test_order_is_fixed_by_the_seed_and_shuffled(corpus, encoder):
    cache, a, _ = corpus

    def made(seed):
        return made_of([Source(a)], cache, encoder, epochs=2, batch_size=2, seed=seed)

    assert order(made(1)) == order(made(1)) != order(made(2))
    assert order(made(1))[:6] != order(made(1))[6:]


def test_batches_hold_like_lengths(corpus, encoder):
    cache, a, _ = corpus
    dataset = made_of([Source(a)], cache, encoder, batch_size=2, seed=3)
    numbers = [int(name[1:]) for name in order(dataset)]
    assert sorted(tuple(sorted(numbers[i : i + 2])) for i in (0, 2, 4)) == [(0, 1), (2, 3), (4, 5)]


def test_validation_keeps_the_order_of_the_file(corpus, encoder):
    cache, a, b = corpus
    dataset = made_of([Source(b), Source(a)], cache, encoder, shuffle=False)
    assert order(dataset) == [f"b{i}" for i in range(4)] + [f"a{i}" for i in range(6)]
    assert dataset.tasks == ["EU"]


def test_collator_pads_right_and_joins_frames_row_by_row(corpus, encoder):
    cache, a, b = corpus
    dataset = made_of([Source(b), Source(a)], cache, encoder, shuffle=False)
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
        made_of([Source(a)], cache, encoder)
