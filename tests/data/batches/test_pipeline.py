"""Batches: order, coverage, process counts and saved positions."""

import itertools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import grain
import jaxtyping
import numpy as np
import pytest

from data import Dataset, evaluation_batches, open_images, train_batches
from data.batches.decoded import DecodedImages
from data.batches.stream import DECODE_OPTIONS, Stream
from lmf_jax.config import ImageSpec
from lmf_jax.errors import TrainingStopped, UserError

NUM_IMAGES = 120
# Every pixel of image i is i, and its label follows from i: a mix-up cannot go unseen.
IMAGES = np.broadcast_to(
    np.arange(NUM_IMAGES, dtype=np.uint8)[:, None, None, None], (NUM_IMAGES, 4, 5, 3)
)
LABELS = (np.arange(NUM_IMAGES) * 7 % 10).astype(np.int32)
ROWS = np.arange(10, 94, 2)  # 42 rows


def stream(batch_size: int = 12, seed: int = 0, rows: np.ndarray = ROWS, **options):
    return train_batches(IMAGES, LABELS, rows, batch_size=batch_size, seed=seed, **options)


def rows_of(batch: dict) -> list[int]:
    """Return which images a batch holds, after checking that its labels belong to them."""
    rows = batch["image"][:, 0, 0, 0]
    np.testing.assert_array_equal(batch["image"], IMAGES[rows])
    np.testing.assert_array_equal(batch["label"], LABELS[rows])
    return rows.tolist()


def take(batches: Iterator, count: int) -> list[list[int]]:
    return [rows_of(next(batches)) for _ in range(count)]


def take_labels(batches: Iterator, count: int) -> list[list[int]]:
    return [next(batches)["label"].tolist() for _ in range(count)]


def joined(blocks: Iterable[list[int]]) -> list[int]:
    return list(itertools.chain.from_iterable(blocks))


def test_train_batches_are_full_and_typed() -> None:
    batches = stream()
    for _ in range(9):
        batch = next(batches)
        assert batch["image"].shape == (12, 4, 5, 3)
        assert (batch["image"].dtype, batch["label"].dtype) == (np.uint8, np.int32)
        assert set(rows_of(batch)) <= set(ROWS)


def test_batches_of_a_memory_map_are_plain_arrays(tmp_path: Path) -> None:
    np.save(tmp_path / "images.npy", IMAGES)
    images = np.load(tmp_path / "images.npy", mmap_mode="r")
    training = next(train_batches(images, LABELS, ROWS, batch_size=12, seed=0))
    evaluation = next(iter(evaluation_batches(images, LABELS, ROWS, batch_size=12)))
    assert type(training["image"]) is type(evaluation["image"]) is np.ndarray
    assert set(rows_of(training)) <= set(ROWS)
    assert rows_of(evaluation) == ROWS[:12].tolist()


def test_every_epoch_covers_each_row_once_and_in_a_new_order() -> None:
    batches = stream(batch_size=14)
    epochs = [joined(take(batches, 3)) for _ in range(4)]
    for epoch in epochs:
        assert sorted(epoch) == ROWS.tolist()
        assert epoch != ROWS.tolist()
    assert len({tuple(epoch) for epoch in epochs}) == 4


def test_batches_are_cut_from_the_stream_of_all_epochs() -> None:
    seen = joined(take(stream(batch_size=12), 7))
    assert sorted(seen) == sorted(ROWS.tolist() * 2)
    assert sorted(seen[:42]) == ROWS.tolist()


def test_a_batch_larger_than_the_dataset_repeats_rows() -> None:
    (batch,) = take(stream(batch_size=8, rows=np.array([3, 50, 7])), 1)
    assert sorted(batch[:3]) == sorted(batch[3:6]) == [3, 7, 50]


def test_the_seed_decides_the_order() -> None:
    assert take(stream(seed=1), 4) == take(stream(seed=1), 4)
    assert take(stream(seed=1), 4) != take(stream(seed=2), 4)


@pytest.mark.parametrize("sampling", ["uniform", "effective-number"])
@pytest.mark.parametrize("process_count", [2, 3, 4])
def test_any_number_of_processes_sees_the_same_global_batches(sampling, process_count) -> None:
    streams = [
        stream(process_index=process, process_count=process_count, sampling=sampling)
        for process in range(process_count)
    ]
    for whole in take(stream(sampling=sampling), 8):
        blocks = [rows_of(next(batches)) for batches in streams]
        assert [len(block) for block in blocks] == [12 // process_count] * process_count
        assert joined(blocks) == whole


def test_a_saved_position_continues_exactly() -> None:
    batches = stream()
    take(batches, 5)
    state = json.loads(json.dumps(batches.get_state()))
    expected = take(batches, 6)
    fresh = stream()
    fresh.set_state(state)
    assert take(fresh, 6) == expected


def test_a_saved_position_counts_what_was_handed_out() -> None:
    batches = stream()
    states = []
    for _ in range(4):
        states.append(json.dumps(batches.get_state()))
        next(batches)
    batches.set_state(json.loads(states[2]))
    assert take(batches, 1) == take(stream(), 3)[2:]


def test_a_position_saved_with_one_process_continues_with_two() -> None:
    alone = stream()
    take(alone, 5)
    pair = [stream(process_index=process, process_count=2) for process in range(2)]
    for batches in pair:
        batches.set_state(alone.get_state())
    for whole in take(alone, 6):
        assert rows_of(next(pair[0])) + rows_of(next(pair[1])) == whole


@pytest.mark.parametrize("sampling", ["uniform", "class-balanced"])
def test_images_that_are_not_cached_come_in_the_same_batches(
    sampling, digits: Dataset, data_dir: Path
) -> None:
    rows = digits.rows["train"]
    streams = []
    for cache in ("disk", "none"):
        images = open_images(digits, ImageSpec(16, 16), cache=cache, data_dir=data_dir)
        training = train_batches(
            images, digits.labels, rows, batch_size=16, seed=0, sampling=sampling
        )
        evaluation = evaluation_batches(images, digits.labels, rows, batch_size=100)
        streams.append((training, [next(training) for _ in range(30)], list(evaluation)))
    (cached, *expected), (streamed, *found) = streams
    for one, other in zip([*expected[0], *expected[1]], [*found[0], *found[1]], strict=True):
        for name in one:
            np.testing.assert_array_equal(one[name], other[name])
    streamed.set_state(cached.get_state())  # a run may go on with the other
    np.testing.assert_array_equal(next(streamed)["image"], next(cached)["image"])


def test_processes_read_the_same_stream_as_threads(digits: Dataset, monkeypatch) -> None:
    images, rows = DecodedImages(digits, ImageSpec(16, 16)), digits.rows["train"]

    def batches() -> Iterator:
        return train_batches(images, digits.labels, rows, batch_size=16, seed=0)

    threads = batches()
    monkeypatch.setattr("data.batches.pipeline.NUM_PROCESSES", 2)
    processes = batches()
    for _ in range(5):
        np.testing.assert_array_equal(next(processes)["image"], next(threads)["image"])
    assert processes.get_state() == threads.get_state()
    threads.set_state({"next_index": 1})
    processes.set_state({"next_index": 1})
    for _ in range(3):
        np.testing.assert_array_equal(next(processes)["image"], next(threads)["image"])


READ_IN_PROCESSES = """
import os, time
import grain
from data.batches.stream import DECODE_OPTIONS, Stream
if __name__ == "__main__":
    stream = Stream(grain.MapDataset.range(100).map(lambda x: os.getpid()), DECODE_OPTIONS, 2)
    print(next(stream), next(stream), flush=True)
    time.sleep(60)
"""


def test_processes_that_read_end_with_the_one_that_is_killed(tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(READ_IN_PROCESSES)
    command = [sys.executable, tmp_path / "program.py"]
    environment = os.environ | {"PYTHONPATH": os.getcwd()}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as program:
        assert program.stdout is not None
        readers = program.stdout.readline().split()
        assert len(set(readers)) == 2
        program.kill()
    deadline = time.monotonic() + 20
    while any(Path(f"/proc/{reader}/cmdline").exists() for reader in readers):
        assert time.monotonic() < deadline, "the processes that read outlive the one they read for"
        time.sleep(0.1)


@pytest.mark.fault(
    "an image becomes unreadable while images are streamed, by threads or processes",
    "the image was named at its step; the steps before were not disturbed",
)
@pytest.mark.parametrize("num_processes", [0, 2])
def test_an_image_that_breaks_while_it_streams_is_named_at_its_step(
    num_processes: int, digits: Dataset, monkeypatch
) -> None:
    """The step before it is not disturbed, though the image is read ahead of that."""
    monkeypatch.setattr("data.batches.pipeline.NUM_PROCESSES", num_processes)
    rows, options = np.arange(50), {"batch_size": 5, "seed": 0}
    victim = take_labels(train_batches(IMAGES[:50], rows, rows, **options), 4)[3][2]
    encoded = [b"GIF89a" if row == victim else digits.source[row] for row in range(1797)]
    images = DecodedImages(replace(digits, source=encoded), ImageSpec(16, 16))
    broken = train_batches(images, np.arange(1797), rows, **options)
    assert victim not in joined(take_labels(broken, 3))
    message = rf"^Image digit-{victim + 1:04d} of digits_lt cannot be decoded"
    with pytest.raises(UserError, match=message):
        next(broken)


@pytest.mark.fault(
    "SIGKILL to a process that reads images",
    "the run stopped with one sentence",
)
def test_a_process_that_reads_and_is_killed_ends_the_run() -> None:
    stream = Stream(grain.MapDataset.range(100).map(lambda _: os.getpid()), DECODE_OPTIONS, 1)
    os.kill(next(stream), signal.SIGKILL)
    message = r"process that reads images was killed \(exit code -9\).*--resume"
    with pytest.raises(TrainingStopped, match=message):
        list(stream)


def test_another_error_of_a_reader_is_not_taken_for_its_death() -> None:
    def fail(_):
        raise RuntimeError("out of luck")

    with pytest.raises(RuntimeError, match="out of luck"):
        next(Stream(grain.MapDataset.range(1).map(fail), DECODE_OPTIONS))


@pytest.mark.parametrize("process_count", [1, 2, 3, 4])
@pytest.mark.parametrize("num_rows", [0, 1, 11, 12, 13, 25, 42])
def test_evaluation_covers_each_row_once_and_in_order(num_rows: int, process_count: int) -> None:
    rows = ROWS[:num_rows]
    blocks = [
        list(
            evaluation_batches(
                IMAGES,
                LABELS,
                rows,
                batch_size=12,
                process_index=process,
                process_count=process_count,
            )
        )
        for process in range(process_count)
    ]
    assert {len(of_process) for of_process in blocks} == {-(-num_rows // 12)}
    seen = []
    for of_step in zip(*blocks, strict=True):
        for batch in of_step:
            mask = batch["mask"]
            assert mask.dtype == np.bool_
            assert batch["image"].shape == (12 // process_count, 4, 5, 3)
            assert not batch["image"][~mask].any()
            assert not batch["label"][~mask].any()
            seen += rows_of({"image": batch["image"][mask], "label": batch["label"][mask]})
    assert seen == rows.tolist()


def test_evaluation_batches_can_be_read_again() -> None:
    batches = evaluation_batches(IMAGES, LABELS, ROWS, batch_size=10)
    assert len(batches) == 5
    first, second = (np.concatenate([batch["label"] for batch in batches]) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    assert first.dtype == np.int32


@pytest.mark.parametrize(
    "batches", [stream, lambda **options: evaluation_batches(IMAGES, LABELS, ROWS, **options)]
)
def test_a_batch_that_processes_cannot_share_is_refused(batches) -> None:
    with pytest.raises(ValueError, match="10 examples cannot be divided equally among 4 processes"):
        batches(batch_size=10, process_count=4)
    with pytest.raises(ValueError, match="no process 2 among 2"):
        batches(batch_size=10, process_index=2, process_count=2)


def test_training_on_no_rows_is_refused() -> None:
    with pytest.raises(ValueError, match="no rows to train on"):
        stream(rows=np.array([], np.int64))


BATCHES = {
    "training": lambda *data, **options: train_batches(*data, seed=0, **options),
    "evaluation": evaluation_batches,
}
WRONG = {
    "a row behind the end": ({"rows": np.array([3, 120])}, "Rows hold 120; expected 0 to 119"),
    "a row before the start": ({"rows": np.array([3, -1])}, "Rows hold -1; expected 0 to 119"),
    "a label too many": ({"num_classes": 8}, "Labels hold 8; expected 0 to 7"),
    "a label below 0": ({"labels": LABELS - 1}, "Labels hold -1; expected 0 to "),
    "labels of int32's other end": ({"labels": LABELS + np.int64(2**32)}, "Labels hold 42949672"),
    "too few labels": ({"labels": LABELS[:-1]}, "There are 119 labels for 120 images"),
    "labels of float": ({"labels": LABELS + 0.5}, "Labels are float64; expected whole numbers"),
    "pixels from 0 to 1": ({"images": IMAGES / 255}, "Images are float64; expected uint8"),
}


@pytest.mark.parametrize("batches", BATCHES.values(), ids=BATCHES.keys())
@pytest.mark.parametrize(("wrong", "message"), WRONG.values(), ids=WRONG.keys())
def test_numbers_that_would_become_others_are_refused(batches, wrong, message, monkeypatch) -> None:
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # as in a person's own loop
    options = {"images": IMAGES, "labels": LABELS.astype(np.int64), "rows": ROWS} | wrong
    data = [options.pop(name) for name in ("images", "labels", "rows")]
    with pytest.raises(ValueError, match=message):
        batches(*data, batch_size=12, **options)


def test_only_the_labels_of_the_rows_are_held_to_the_classes() -> None:
    labels = np.where(np.isin(np.arange(NUM_IMAGES), ROWS), LABELS, -1)
    next(train_batches(IMAGES, labels, ROWS, batch_size=12, seed=0, num_classes=10))


# Every mask is another one too: a mix-up of images and masks cannot go unseen.
MASKS = ((np.arange(20).reshape(1, 4, 5) + np.arange(NUM_IMAGES)[:, None, None]) % 7).astype(
    np.uint8
)


def mask_stream(**options):
    return train_batches(IMAGES, MASKS, ROWS, **({"batch_size": 12, "seed": 0} | options))


def rows_of_masks(batch: dict) -> list[int]:
    """Return which images a batch holds, after checking that its masks belong to them."""
    rows = batch["image"][:, 0, 0, 0]
    assert batch["label"].dtype == np.int32
    np.testing.assert_array_equal(batch["label"], MASKS[rows])
    return rows.tolist()


@pytest.mark.parametrize("process_count", [1, 2, 4])
def test_masks_come_in_the_batches_of_their_images(process_count: int) -> None:
    streams = [
        mask_stream(process_index=process, process_count=process_count)
        for process in range(process_count)
    ]
    for whole in take(stream(), 8):  # the order is that of images with classes
        assert joined(rows_of_masks(next(batches)) for batches in streams) == whole


@pytest.mark.parametrize("process_count", [1, 2, 4])
def test_a_saved_position_holds_for_masks_and_any_process_count(process_count: int) -> None:
    alone = mask_stream()
    for _ in range(5):
        next(alone)
    state = json.loads(json.dumps(alone.get_state()))
    streams = [
        mask_stream(process_index=process, process_count=process_count)
        for process in range(process_count)
    ]
    for batches in streams:
        batches.set_state(state)
    for _ in range(6):
        blocks = [rows_of_masks(next(batches)) for batches in streams]
        assert joined(blocks) == rows_of_masks(next(alone))


@pytest.mark.parametrize("process_count", [1, 2, 4])
def test_evaluation_covers_each_mask_once_and_pads_with_zeros(process_count: int) -> None:
    seen = []
    blocks = [
        list(
            evaluation_batches(
                IMAGES,
                MASKS,
                ROWS[:25],
                batch_size=12,
                process_index=process,
                process_count=process_count,
            )
        )
        for process in range(process_count)
    ]
    for of_step in zip(*blocks, strict=True):
        for batch in of_step:
            assert batch["label"].shape == (12 // process_count, 4, 5)
            assert batch["label"].dtype == np.int32
            valid = batch["mask"]
            assert not batch["label"][~valid].any()
            seen += rows_of_masks({name: batch[name][valid] for name in ("image", "label")})
    assert seen == ROWS[:25].tolist()


WRONG_MASKS = {
    "another size": (MASKS[:, :3], {}, r"Masks are \(3, 5\) for images of \(4, 5\); expected one"),
    "too few": (MASKS[:-1], {}, "There are 119 labels for 120 images"),
    "a class too many": (MASKS, {"num_classes": 6}, "Labels hold 6; expected 0 to 5"),
}


@pytest.mark.parametrize("batches", BATCHES.values(), ids=BATCHES.keys())
@pytest.mark.parametrize(("masks", "options", "message"), WRONG_MASKS.values(), ids=WRONG_MASKS)
def test_masks_that_do_not_fit_the_images_are_refused(
    batches, masks, options, message, monkeypatch
) -> None:
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # as in a person's own loop
    with pytest.raises(ValueError, match=message):
        batches(IMAGES, masks, ROWS, batch_size=12, **options)


@pytest.mark.parametrize("sampling", ["class-balanced", "effective-number"])
def test_masks_are_sampled_uniformly_alone(sampling) -> None:
    with pytest.raises(ValueError, match=f"Sampling is {sampling}, which needs a class"):
        mask_stream(sampling=sampling)
