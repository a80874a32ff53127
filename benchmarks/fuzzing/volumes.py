"""Targets that read volumes: NIfTI files, their ``dataset.json``, and prepared ones."""

import contextlib
import functools
import gzip
import io
import json
import tempfile
from pathlib import Path
from typing import Any
from unittest import mock

import nibabel
import numpy as np
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

import data.formats.volume_file
from benchmarks.fuzzing.harness import Files, Target
from benchmarks.fuzzing.mutations import changed_bytes, changed_files, changed_json
from benchmarks.fuzzing.npz import changed_npz
from data.batches.patches import patch_batches
from data.datasets.volumes.dataset_json import FILE, read_dataset_json
from data.datasets.volumes.plan import Plan
from data.formats.nifti import LARGEST_LABEL, open_nifti
from data.inputs.volume_files import spec_of_run
from data.prepared.prepare_volumes import prepare_volumes
from data.splits.volumes import load_volumes
from lmf_jax.errors import UserError
from lmf_jax.json_text import parse_json
from tests.helpers.volume_downloads import make_kits19

VOLUME = "volume.nii"
LABELS = (0, 1, 2, 4)


def _encoded_volumes() -> list[bytes]:
    """Return small volumes of several types, versions and byte orders, compressed and not."""
    values = np.array(LABELS)[np.arange(60).reshape(3, 4, 5) % 4]
    affine = np.diag([-1.5, 2, 3, 1.0])
    contents = []
    for kind in (nibabel.Nifti1Image, nibabel.Nifti2Image):
        for dtype in ("<i2", ">f4", "<f8", "u1"):
            header = kind.header_class(endianness=">" if dtype[0] == ">" else "<")
            header.set_data_dtype(dtype)
            contents.append(kind(values.astype(dtype), affine, header).to_bytes())
    return contents + [gzip.compress(content) for content in contents[:3]]


def _bad_volumes() -> SearchStrategy[Files]:
    contents = _encoded_volumes()
    plain = changed_bytes([content for content in contents if content[:2] != b"\x1f\x8b"])
    compressed = plain.map(lambda content: gzip.compress(content, 1))
    return st.one_of(plain, compressed, changed_bytes(contents)).map(
        lambda content: {VOLUME: content}
    )


def _read_nifti(folder: Path) -> None:
    """Read as a preparation does: finite numbers, and class ids."""
    with mock.patch.object(data.formats.volume_file, "LARGEST_VOLUME", 2**20):
        file = open_nifti(folder / VOLUME)
        assert np.all(np.isfinite(file.affine))
        image = file.read_image()
        assert image.shape == file.oriented_shape and image.dtype == np.float32
        assert np.isfinite(image).all()
        labels = file.read_labels(LABELS)
        assert labels.shape == image.shape and labels.max() < len(LABELS)


@functools.cache
def _good_dataset() -> Files:
    """Return the files of a prepared dataset."""
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stderr(io.StringIO()):
        root = Path(folder)
        raw = make_kits19(root / "raw", 4, shape=(6, 9, 8))
        prepared = prepare_volumes("kits19", raw, root / "data")
        return {
            path.relative_to(root / "data").as_posix(): path.read_bytes()
            for path in sorted(prepared.folder.iterdir())
            if not path.name.startswith(".")
        }


def _bad_datasets() -> SearchStrategy[Files]:
    good = _good_dataset()
    strategies = {name: changed_bytes([content]) for name, content in good.items()}
    for name, content in good.items():
        start = content.index(b"PK\x03\x04")
        slices = content[:start]
        with np.load(io.BytesIO(content[start:])) as arrays:
            changed = changed_npz(dict(arrays)).map(functools.partial(_joined, slices))
            strategies[name] = st.one_of(strategies[name], changed)
    return changed_files(good, strategies)


def _joined(slices: bytes, description: bytes) -> bytes:
    return slices + description


def _read_dataset(folder: Path) -> None:
    """Open the dataset, and read whole cases and patches."""
    dataset = load_volumes("kits19", data_dir=folder)
    rows = np.arange(len(dataset.ids))
    for row in rows.tolist():
        volume = dataset.read(row)
        assert volume.labels.shape == tuple(dataset.shapes[row])
        assert volume.labels.max() < len(dataset.class_names)
    batch = next(patch_batches(dataset, rows, patch_size=(3, 3, 3), batch_size=2, seed=0))
    assert batch["image"].shape == (2, 3, 3, 3, 1)


DECLARED: tuple[dict[str, Any], ...] = (
    {
        "channel_names": {"0": "CT", "1": "T2"},
        "labels": {"background": 0, "organ": 1, "lesion": [7]},
        "numTraining": 4,
        "file_ending": ".nii.gz",
    },
    {"modality": {"0": "MRI"}, "labels": {"0": "background", "1": "organ"}, "training": []},
)
"""Valid contents of ``dataset.json``, of both versions."""


def _bad_declarations() -> SearchStrategy[Files]:
    contents = [json.dumps(declared).encode() for declared in DECLARED]
    changed = st.sampled_from(DECLARED).flatmap(changed_json)
    return st.one_of(changed, changed_bytes(contents)).map(lambda content: {FILE: content})


def _read_declaration(folder: Path) -> None:
    found = read_dataset_json(folder / FILE)
    assert len(found.class_names) == len(found.label_values) >= 2
    assert found.label_values[0] == 0 and max(found.label_values) <= LARGEST_LABEL
    assert found.modalities and all(name.isprintable() for name in found.modalities)


PLAN = Plan(
    class_names=("background", "organ"),
    label_values=(0, 7),
    modalities=("CT", "T2"),
    schemes=("ct", "z-score"),
    spacing=(3.0, 1.0, 1.0),
    padding=(-1000.0, 0.0),
    crop=False,
    is_numbered=True,
    patch_size=(16, 32, 32),
    batch_size=2,
    num_cases=4,
    foreground="0" * 64,
)
"""A valid plan, as the ``config.json`` of a run has it."""


def _bad_plans() -> SearchStrategy[Files]:
    return changed_json(PLAN.record()).map(lambda content: {"plan.json": content})


def _read_plan(folder: Path) -> None:
    try:
        plan = parse_json((folder / "plan.json").read_bytes())
    except ValueError as error:
        raise UserError("It is not JSON.") from error
    spec = spec_of_run({"name": "volumes:DIR", "plan": plan})
    assert len(spec.normalize) == len(spec.modalities)
    assert max(spec.label_values) <= LARGEST_LABEL and min(spec.spacing) > 0


TARGETS = (
    Target("nifti", _bad_volumes, _read_nifti),
    Target("dataset-json", _bad_declarations, _read_declaration),
    Target("volume-plan", _bad_plans, _read_plan),
    Target("prepared-volumes", _bad_datasets, _read_dataset, cost=20),
)
