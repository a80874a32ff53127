"""Gray images of more than 8 bits keep their levels, the same in training and afterwards."""

import io
import json
import runpy
import shutil
import struct
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data.batches.decoded import DecodedImages
from data.batches.image_cache import cached_images
from data.builders.intensity_search import IntensityCounts
from data.formats.images import decode_image
from data.formats.intensity import FULL_RANGE, INTENSITY_FILE, parse_range, recorded_range, scale
from data.inputs.image_files import InferenceImages
from data.prepared.prepare import prepare
from data.splits.dataset import Dataset, load_dataset
from data.splits.segmentation import load_segmentation_dataset
from lmf_jax.cli.image_batches import open_batches
from lmf_jax.config import Config, ImageSpec
from lmf_jax.errors import UserError

RAMP = np.arange(4096, dtype=np.uint16).reshape(64, 64)


def encode(values: np.ndarray, format: str = "png", **options) -> bytes:
    file = io.BytesIO()
    Image.fromarray(values).save(file, format, **options)
    return file.getvalue()


def with_sbit(png: bytes, bits: int) -> bytes:
    chunk = b"sBIT" + bytes([bits])
    return png[:33] + struct.pack(">I", 1) + chunk + struct.pack(">I", zlib.crc32(chunk)) + png[33:]


def write_scans(folder: Path, encoded: list[bytes], suffix: str = "png") -> str:
    """Write a folder of two classes; returns the dataset's name."""
    for number, content in enumerate(encoded):
        path = folder / "scans of a hand" / "ab"[number % 2] / f"{number:02d}.{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return f"folder:{folder / 'scans of a hand'}"


def command(*words: str, monkeypatch) -> None:
    monkeypatch.setattr(sys, "argv", ["data", *words])
    runpy.run_module("data", run_name="__main__")


@pytest.fixture
def scans(tmp_path: Path) -> str:
    """Twelve scans of 12 bits, the darkest of which use 5 and the lightest all."""
    return write_scans(tmp_path, [encode(RAMP >> max(0, 7 - i)) for i in range(12)])


@pytest.fixture
def dataset(scans: str, tmp_path: Path) -> Dataset:
    return load_dataset(scans, data_dir=tmp_path / "data")


def test_all_gray_levels_of_12_bits_in_16_are_kept(dataset: Dataset) -> None:
    expected = np.round(RAMP * (255 / 4095)).astype(np.uint8)
    images = DecodedImages(dataset, ImageSpec(64, 64))[np.arange(12)]
    assert dataset.intensity_range == (0, 4095)
    np.testing.assert_array_equal(images[-1], np.repeat(expected[..., None], 3, axis=2))
    assert len(np.unique(images[-1])) == 256
    assert images[0].max() == round(31 * 255 / 4095)  # one range for all


def test_the_range_is_recorded_and_said(dataset: Dataset, scans: str, tmp_path: Path) -> None:
    assert dataset.description["intensity_range"] == [0, 4095]
    assert dataset.intensity_note == (
        "intensities 0 to 4095 of 12 images of 16 bits become 0 to 255 (12 bits in use; the "
        "largest is 4095)"
    )
    assert load_dataset(scans, data_dir=tmp_path / "data").fingerprint == dataset.fingerprint


def test_a_file_gives_the_same_pixels_in_training_and_alone(dataset: Dataset, scans: str) -> None:
    recorded = json.loads(json.dumps(dataset.description))["intensity_range"]
    files = [Path(scans.removeprefix("folder:")) / name for name in dataset.ids]
    (batch,) = InferenceImages(files, ImageSpec(32, 32), 12, recorded_range(recorded))
    np.testing.assert_array_equal(
        batch["image"], DecodedImages(dataset, ImageSpec(32, 32))[np.arange(12)]
    )


def test_predictions_read_files_by_the_range_of_their_run(dataset: Dataset, scans: str) -> None:
    config = Config.of(image_size=64, batch_size=12).resolve({})
    files = [Path(scans.removeprefix("folder:")) / name for name in dataset.ids]
    (batch,) = open_batches(files, config, dataset.description)
    expected = DecodedImages(dataset, ImageSpec(64, 64))[np.arange(12)]
    np.testing.assert_array_equal(batch["image"][:12], expected)
    assert open_batches(files, config, {}).intensity_range is None


def test_files_that_are_deeper_than_what_was_trained_on_are_counted(tmp_path: Path) -> None:
    for number, values in enumerate((RAMP, RAMP.astype(np.uint8))):
        (tmp_path / f"{number}.png").write_bytes(encode(values))
    (tmp_path / "2.png").write_bytes(b"")
    images = InferenceImages(sorted(tmp_path.iterdir()), ImageSpec(8, 8), 4)
    (batch,) = images
    assert batch["mask"].tolist() == [True, True, False, False]
    (line,) = images.remarks()
    assert line.startswith("1 of 3 images have 16 bits, and the run recorded no intensity range")
    images.intensity_range = parse_range("0,4095")
    assert images.remarks() == []


def test_another_range_can_be_given_later(
    dataset: Dataset, scans: str, tmp_path: Path, monkeypatch, capsys
) -> None:
    data_dir = str(tmp_path / "data")
    before = cached_images(dataset, ImageSpec(8, 8), data_dir)[np.arange(12)]
    where = ("prepare", scans, "--data-dir", data_dir)
    command(*where, "--intensity-range", "1000,2000", monkeypatch=monkeypatch)
    assert "intensities 1000 to 2000 of 12 images" in capsys.readouterr().out
    command(*where, monkeypatch=monkeypatch)
    assert "become 0 to 255 (as given; the largest is 4095)" in capsys.readouterr().out
    changed = load_dataset(scans, data_dir=data_dir)
    assert changed.intensity_range == (1000, 2000)
    assert changed.fingerprint != dataset.fingerprint
    image = DecodedImages(changed, ImageSpec(64, 64))[np.array([11])][0, ..., 0]
    expected = np.clip(np.floor((RAMP - 1000.0) * 0.255 + 0.5), 0, 255)
    np.testing.assert_array_equal(image, expected)
    assert (cached_images(changed, ImageSpec(8, 8), data_dir)[np.arange(12)] != before).any()
    np.testing.assert_array_equal(changed.rows["test"], dataset.rows["test"])


def test_a_range_is_given_as_a_dataset_is_prepared(scans: str, tmp_path: Path, capsys) -> None:
    prepared = prepare(scans, None, tmp_path / "data", intensity_range=parse_range(" 5, 300"))
    assert prepared.intensity_range == (5, 300)


def found(*encoded: bytes):
    counts = IntensityCounts()
    for image in encoded:
        counts.decode(image)
    return counts.find()


def dark(largest: int) -> np.ndarray:
    return np.minimum(RAMP, largest)


DECLARED = {
    "nothing": ([encode(dark(2000))], 2047, "11 bits in use"),
    "few values": ([encode(dark(300))], 511, "9 bits in use"),
    "values of 8 bits": ([encode(dark(90))], 255, "8 bits in use"),
    "zero alone": ([encode(dark(0))], 255, "8 bits in use"),
    "13 bits": ([encode(RAMP + 1), encode(dark(4))], 8191, "13 bits in use"),
    "16 bits": ([encode(RAMP * 16)], 65535, "16 bits in use"),
    "sBIT": ([with_sbit(encode(dark(2000)), 12)], 4095, "12 bits declared by the files"),
    "sBIT of the file": ([with_sbit(encode(dark(2000)), 16)], 2047, "11 bits in use"),
    "sBIT of scaled values": ([with_sbit(encode(RAMP * 16), 12)], 65535, "16 bits in use"),
    "sBIT of one file": (
        [with_sbit(encode(dark(2000)), 12), encode(dark(2000))],
        2047,
        "11 bits in use",
    ),
    "MaxSampleValue": (
        [
            encode(dark(2000), "tiff", tiffinfo={281: 4000}),
            encode(dark(9), "tiff", tiffinfo={281: 9}),
        ],
        2047,
        "11 bits in use",
    ),
    "MaxSampleValue in all": (
        [encode(dark(2000), "tiff", tiffinfo={281: 4095})] * 2,
        4095,
        "12 bits declared by the files",
    ),
    "compressed TIFF": ([encode(RAMP, "tiff", compression="tiff_lzw")], 4095, "12 bits in use"),
    "32 bits": ([encode(RAMP.astype(np.int32), "tiff")], 4095, "12 bits in use"),
}


@pytest.mark.parametrize(("encoded", "high", "source"), DECLARED.values(), ids=DECLARED.keys())
def test_bits_in_use_or_declared_decide(encoded: list[bytes], high: int, source: str) -> None:
    intensities = found(*encoded)
    assert intensities.range == (0, high)
    assert source in intensities.line


def test_images_of_8_bits_have_no_range() -> None:
    assert found(encode(RAMP.astype(np.uint8)), encode(np.zeros((2, 2, 3), np.uint8))) is None


def test_few_gray_levels_are_never_left_quietly() -> None:
    offset = RAMP // 4 + 31768  # as computed tomography is kept
    line = found(encode(offset)).line
    assert "99.9 % of the pixels are in 31768 to 32791 and share 5 of 256 gray levels" in line
    assert "--intensity-range 31768,32791" in line
    with_marker = dark(4095)
    with_marker[0, 0] = 65535
    assert "and share 17 of 256 gray levels" in found(encode(with_marker)).line
    assert "share" not in found(encode(RAMP)).line
    assert "share" not in found(encode(dark(90))).line


def test_white_is_zero_within_the_range() -> None:
    inverted = encode(4095 - RAMP, "tiff", tiffinfo={262: 0})
    plain = encode(RAMP)
    assert found(inverted).range == (0, 4095)
    limits = parse_range("0,4095")
    difference = decode_image(inverted, ImageSpec(64, 64), limits).astype(int) - decode_image(
        plain, ImageSpec(64, 64), limits
    )
    assert np.abs(difference).max() == 0


def test_values_are_scaled_and_clipped() -> None:
    values = np.arange(65536, dtype=np.uint16)
    np.testing.assert_array_equal(scale(values, FULL_RANGE), (values.astype(int) + 128) // 257)
    scaled = scale(values, parse_range("100,355"))
    np.testing.assert_array_equal(scaled[100:356], np.arange(256))
    assert scaled[:100].max() == 0
    assert scaled[356:].min() == 255


def test_images_of_8_bits_and_those_prepared_before_stay_as_they_were(tmp_path: Path) -> None:
    name = write_scans(tmp_path, [encode((RAMP + i).astype(np.uint8)) for i in range(12)])
    dataset = load_dataset(name, data_dir=tmp_path / "data")
    (record,) = (tmp_path / "data").rglob(INTENSITY_FILE)
    assert record.read_text() == "null\n"
    record.unlink()
    before = load_dataset(name, data_dir=tmp_path / "data")
    assert (before.fingerprint, before.content_fingerprint) == (
        dataset.fingerprint,
        prepare(name, None, tmp_path / "data").fingerprint,
    )
    assert "intensity_range" not in before.description
    assert before.intensity_note is None


def test_16_bits_that_are_all_in_use_keep_their_fingerprint(tmp_path: Path) -> None:
    name = write_scans(tmp_path, [encode(RAMP * 16)] * 12)
    dataset = load_dataset(name, data_dir=tmp_path / "data")
    assert dataset.intensity_range == FULL_RANGE
    assert dataset.description["intensity_range"] == [0, 65535]
    assert dataset.content_fingerprint == prepare(name, None, tmp_path / "data").fingerprint


def test_what_was_prepared_before_is_recorded_by_preparing_it_again(
    dataset: Dataset, scans: str, tmp_path: Path, monkeypatch, capsys
) -> None:
    (record,) = (tmp_path / "data").rglob(INTENSITY_FILE)
    record.unlink()
    assert load_dataset(scans, data_dir=tmp_path / "data").intensity_range == FULL_RANGE
    command("prepare", scans, "--data-dir", str(tmp_path / "data"), monkeypatch=monkeypatch)
    assert dataset.intensity_note in capsys.readouterr().out.splitlines()
    again = load_dataset(scans, data_dir=tmp_path / "data")
    assert again.fingerprint == dataset.fingerprint


def test_a_run_of_before_ranges_were_recorded_finds_its_images(
    dataset: Dataset, scans: str, tmp_path: Path
) -> None:
    (record,) = (tmp_path / "data").rglob(INTENSITY_FILE)
    content = record.read_text()
    record.unlink()
    before = load_dataset(scans, data_dir=tmp_path / "data")
    record.write_text(content)
    again = load_dataset(scans, data_dir=tmp_path / "data", fingerprint=before.fingerprint)
    assert again.fingerprint == before.fingerprint != dataset.fingerprint
    assert again.content_fingerprint == before.content_fingerprint
    assert again.intensity_range == FULL_RANGE
    again = load_dataset(scans, data_dir=tmp_path / "data", fingerprint=dataset.fingerprint)
    assert again.intensity_range == dataset.intensity_range


def test_images_with_masks_have_a_range(tmp_path: Path) -> None:
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
    for number in range(12):
        (tmp_path / "images" / f"{number}.png").write_bytes(encode(RAMP))
        mask = ((RAMP + number) % 2).astype(np.uint8)
        (tmp_path / "masks" / f"{number}.png").write_bytes(encode(mask))
    name = f"pairs:{tmp_path / 'images'},{tmp_path / 'masks'}"
    dataset = load_segmentation_dataset(name, data_dir=tmp_path / "data")
    assert dataset.description["intensity_range"] == [0, 4095]
    assert "of 12 images of 16 bits" in str(dataset.intensity_note)


@pytest.mark.parametrize(
    "text", ["", "4095", "a,b", "5,5", "9,3", "-32769,5", "0,65536", "0,1,2", "0;9"]
)
def test_a_wrong_range_is_one_clear_error(text: str) -> None:
    with pytest.raises(
        UserError, match="expected LOW,HIGH, two whole numbers from -32768 to 65535"
    ):
        parse_range(text)


def test_a_range_for_images_of_8_bits_is_refused(tmp_path: Path, monkeypatch, capsys) -> None:
    name = write_scans(tmp_path, [encode(RAMP.astype(np.uint8))] * 12)
    words = ("prepare", name, "--data-dir", str(tmp_path / "data"), "--intensity-range", "0,9")
    for _ in range(2):  # before it is prepared, and after
        with pytest.raises(SystemExit):
            command(*words, monkeypatch=monkeypatch)
        assert "has more than 8 bits; leave --intensity-range 0,9 out." in capsys.readouterr().err
        prepare(name, None, tmp_path / "data")
    with pytest.raises(SystemExit):
        command("prepare", "kits19", "--intensity-range", "0,9", monkeypatch=monkeypatch)
    assert "--intensity-range is for images, and kits19 has vol" in capsys.readouterr().err


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"low": 0}', "7", "nulll"])
def test_a_damaged_record_is_named(content: str, dataset, scans: str, tmp_path: Path) -> None:
    (record,) = (tmp_path / "data").rglob(INTENSITY_FILE)
    record.write_text(content)
    with pytest.raises(UserError, match=r"has no complete dataset \(.*; remove it and prepare"):
        load_dataset(scans, data_dir=tmp_path / "data")
    shutil.rmtree(record.parent)
    assert load_dataset(scans, data_dir=tmp_path / "data").intensity_range == (0, 4095)
