"""No identity in the header of a DICOM file reaches what the program prints or writes."""

import base64
import gzip
import io
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorstore
from array_record.python.array_record_module import ArrayRecordWriter
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from lmf_jax.inference import image_model, segmenter
from lmf_jax.training import classification, segmentation
from tests.helpers.dicom_files import SENTINEL, dicom_dataset, encode
from tests.helpers.hidden_text import texts_in, texts_in_bytes
from tests.helpers.image_pairs import SIZE, draw_mask
from tests.helpers.tiny_commands import run_lmf_jax, train
from tests.helpers.tiny_training import tiny_model, tiny_unet

UID = "1.2.777777777"
DATES = {
    "StudyDate": "18990817",
    "SeriesDate": "18990818",
    "AcquisitionDate": "18990819",
    "ContentDate": "18990820",
    "PatientBirthDate": "18881130",
}
IDENTITIES = (SENTINEL, UID, *DATES.values())
WINDOW = "1234567890.5"


def dicom_file(number: int, shade: int, **elements) -> bytes:
    """Return a file whose header names a patient in every way, private and nested ones too."""
    rng = np.random.default_rng(number)
    pixels = rng.integers(0, 900, SIZE[::-1]).astype(np.uint16) + np.uint16(shade)
    request = Dataset()
    request.RequestedProcedureID = SENTINEL
    request.ReasonForTheRequestedProcedure = SENTINEL
    dataset = dicom_dataset(
        pixels,
        **DATES,
        PatientID=f"{SENTINEL}{number // 2}",
        PatientComments=SENTINEL,
        ImageComments=SENTINEL,
        DeviceSerialNumber=SENTINEL,
        StationName=SENTINEL,
        SOPInstanceUID=f"{UID}.1.{number}",
        StudyInstanceUID=f"{UID}.2.{number // 2}",
        SeriesInstanceUID=f"{UID}.3.{number}",
        RequestAttributesSequence=Sequence([request]),
        BurnedInAnnotation="YES" if number == 3 else "NO",
        **elements,
    )
    dataset.private_block(0x0011, SENTINEL, create=True).add_new(1, "LO", SENTINEL)
    return encode(dataset)


def write(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def write_folder(folder: Path, first: int, number: int) -> Path:
    """Write dark and bright images in a folder per class; each patient has two."""
    for name, shade in (("dark", 0), ("bright", 3000)):
        for place in range(first, first + number, 4):
            for image in (place, place + 1) if shade else (place + 2, place + 3):
                write(folder / name / f"image{image}.dcm", dicom_file(image, shade))
    return folder


@pytest.fixture
def folder(tmp_path) -> Path:
    """Return a folder of 16 images, of which one declares burned-in annotation."""
    return write_folder(tmp_path / "raw", 0, 16)


def damaged_files() -> dict[str, bytes]:
    """Return files whose damage makes a reader quote the header, by name."""
    whole = dicom_file(1, 0, WindowCenter=WINDOW, WindowWidth="1")
    assert whole.count(WINDOW.encode()) == 1 and len(WINDOW) == len(SENTINEL)
    return {
        "window.dcm": whole.replace(WINDOW.encode(), SENTINEL.encode()),
        "short.dcm": whole[:-99],
        "header.dcm": whole[: whole.index(SENTINEL.encode()) + 4],
    }


def run_data(patch: pytest.MonkeyPatch, *words: object) -> int:
    """Run ``python -m data`` with these words in this process; return its exit code."""
    patch.setattr(sys, "argv", ["data", *map(str, words)])
    try:
        runpy.run_module("data", run_name="__main__")
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


def assert_no_identity(root: Path, printed: tuple[str, str]) -> None:
    """Search what was printed, and every file under the folder."""
    for text in printed:
        assert texts_in_bytes(text.encode(), IDENTITIES) == set()
    assert texts_in(root, IDENTITIES) == []


@pytest.fixture
def output(tmp_path, monkeypatch) -> Path:
    """Return the folder of all that is written; the models are tiny."""
    for module, model in {
        classification: tiny_model,
        image_model: tiny_model,
        segmentation: tiny_unet,
        segmenter: tiny_unet,
    }.items():
        monkeypatch.setattr(
            module, "create_model", lambda name, model=model, **settings: model(**settings)
        )
    output = tmp_path / "written"
    output.mkdir()
    return output


def planted() -> dict[str, bytes]:
    """Return files that hold a name in the ways that files of a run hold texts."""
    npz, png, gray = io.BytesIO(), io.BytesIO(), Image.new("L", (2, 2))
    np.savez_compressed(npz, ids=np.array([SENTINEL]))
    texts = PngInfo()
    texts.add_text("Title", SENTINEL, zip=True)
    gray.save(png, "png", pnginfo=texts)
    return {
        "plain.json": f'{{"patient": "{SENTINEL.lower()}"}}'.encode(),
        "ids.npz": npz.getvalue(),
        "log.gz": gzip.compress(SENTINEL.encode()),
        "picture.png": png.getvalue(),
        "page.html": b"<img src=data:image/png;base64," + base64.b64encode(png.getvalue()),
        "date.txt": b"on " + DATES["StudyDate"].encode(),
        f"{SENTINEL}.txt": b"",
    }


@pytest.mark.parametrize("name", planted())
def test_the_search_finds_a_name_wherever_it_may_hide(name, tmp_path):
    write(tmp_path / name, planted()[name])
    (found,) = texts_in(tmp_path, IDENTITIES)
    assert found.startswith(f"{name}: ")


def test_the_search_finds_a_name_in_records_and_in_the_database_of_a_checkpoint(tmp_path):
    writer = ArrayRecordWriter(str(tmp_path / "set.array_record"), "group_size:1")
    writer.write(f"{SENTINEL} ".encode() * 99)
    writer.close()
    spec = {"driver": "ocdbt", "base": f"file://{tmp_path}/checkpoint/"}
    tensorstore.KvStore.open(spec).result()[b"name"] = SENTINEL.encode() * 99
    found = texts_in(tmp_path, IDENTITIES)
    assert {f"checkpoint/manifest.ocdbt: {SENTINEL}", f"set.array_record: {SENTINEL}"} <= {*found}


def test_the_search_finds_nothing_in_numbers_and_pixels(tmp_path):
    gray = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64), np.uint8))
    gray.save(tmp_path / "picture.png")
    write(tmp_path / "numbers.json", f"[0.{DATES['StudyDate']}, 7{DATES['StudyDate']}]".encode())
    assert texts_in(tmp_path, IDENTITIES) == []


def test_every_damaged_file_quotes_the_header_if_its_reader_may(tmp_path):
    for content in damaged_files().values():
        assert texts_in_bytes(content, [SENTINEL[:4]])


@pytest.mark.slow
def test_no_identity_leaves_a_folder(folder, output, monkeypatch, tmp_path, capfd):
    run, data = output / "run", output / "data"
    dataset = ("--dataset", f"folder:{folder}", "--data-dir", data)
    assert run_data(monkeypatch, "audit", f"folder:{folder}", "--data-dir", data) == 0
    train(monkeypatch, *dataset, "--run-dir", run, "--epochs", 1)
    assert run_lmf_jax(monkeypatch, "evaluate", run) == 0
    other = ("--dataset", f"folder:{write_folder(tmp_path / 'other', 100, 8)}")
    assert run_lmf_jax(monkeypatch, "evaluate", run, *other, "--data-dir", data) == 0
    for name, content in damaged_files().items():
        write(folder / "dark" / name, content)
    predict = ("predict", run, folder / "dark", "--output", output / "dark.csv")
    assert run_lmf_jax(monkeypatch, *predict) in (0, 2)
    explain = ("explain", run, folder / "bright" / "image4.dcm", "--output", output / "maps")
    assert run_lmf_jax(monkeypatch, *explain) == 0
    assert run_lmf_jax(monkeypatch, "card", run) == 0
    printed = capfd.readouterr()
    for name in damaged_files():
        assert name in printed.err + printed.out
    names = {path.name for path in output.rglob("*")}
    assert {"test.json", "predictions.npz", "report.html", "dark.csv", "model_card.md"} <= names
    assert "DICOM images were rendered to 8 bits" in printed.out
    assert_no_identity(output, printed)


def test_no_identity_leaves_a_damaged_dataset(folder, output, monkeypatch, capfd):
    for name, content in damaged_files().items():
        write(folder / "dark" / name, content)
    words = (f"folder:{folder}", "--data-dir", output)
    assert run_data(monkeypatch, "prepare", *words) == 2
    assert run_data(monkeypatch, "prepare", *words, "--skip-broken") == 0
    printed = capfd.readouterr()
    assert all(name in printed.err + printed.out for name in damaged_files())
    assert_no_identity(output, printed)


def test_no_identity_leaves_a_manifest(folder, output, monkeypatch, capfd):
    files = sorted(folder.rglob("*.dcm"))
    lines = [f"{path.relative_to(folder)},{path.parent.name}" for path in files]
    write(folder / "list.csv", "\n".join(["path,label", *lines]).encode())
    dataset = ("--dataset", f"manifest:{folder / 'list.csv'}", "--data-dir", output / "data")
    train(monkeypatch, *dataset, "--run-dir", output / "run", "--epochs", 1)
    assert_no_identity(output, capfd.readouterr())


def test_no_identity_leaves_pairs(output, monkeypatch, tmp_path, capfd):
    for number in range(16):
        write(tmp_path / "images" / f"{number}.dcm", dicom_file(number, 0))
        draw_mask(tmp_path / "masks" / f"{number}.png", number)
    words = ["--task", "segmentation", "--dataset", f"pairs:{tmp_path}/images,{tmp_path}/masks"]
    words += ["--data-dir", output / "data", "--run-dir", output / "run", "--image-size", "32"]
    words += ["--epochs", "1", "--batch-size", "4"]
    monkeypatch.setattr(sys, "argv", ["train.py", *map(str, words)])
    runpy.run_path(str(Path(__file__).parents[1] / "train.py"), run_name="__main__")
    predict = ("predict", output / "run", tmp_path / "images", "--output", output / "masks")
    assert run_lmf_jax(monkeypatch, *predict) == 0
    assert_no_identity(output, capfd.readouterr())
