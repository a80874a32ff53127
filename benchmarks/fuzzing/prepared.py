"""The target that opens a prepared dataset."""

import contextlib
import functools
import io
import json
import tempfile
from pathlib import Path

import numpy as np
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from benchmarks.fuzzing.harness import Files, Target
from benchmarks.fuzzing.images import encoded_images, encoded_masks
from benchmarks.fuzzing.labels import check_labels
from benchmarks.fuzzing.mutations import changed_bytes, changed_files, changed_json
from benchmarks.fuzzing.npz import changed_npz
from data.formats.metadata import write_metadata
from data.prepared.images import INDEX_FILE, open_prepared
from data.prepared.prepare import prepare


@functools.cache
def _good_dataset(kind: str) -> Files:
    """Return the files of a dataset prepared from images in folders, or from pairs with masks."""
    with tempfile.TemporaryDirectory() as folder:
        a, b = Path(folder) / "images" / "a", Path(folder) / "images" / "b"
        for place in (a, b):
            place.mkdir(parents=True)
        for number, content in enumerate(encoded_images()[:8]):
            if kind == "folder":
                ((a, b)[number % 2] / f"{number}.png").write_bytes(content)
            else:  # of the same size
                (a / f"{number}.png").write_bytes(encoded_images()[0])
                (b / f"{number}.png").write_bytes(encoded_masks()[0])
        name = f"folder:{a.parent}" if kind == "folder" else f"pairs:{a},{b}"
        with contextlib.redirect_stderr(io.StringIO()):
            prepared = prepare(name, None, Path(folder) / "data")
        ages = np.array([str(20 + row) for row in range(len(prepared.ids))])
        write_metadata(prepared.folder, {"age": ages, "sex": np.full(len(ages), "")})
        return {
            path.name: path.read_bytes()
            for path in sorted(prepared.folder.iterdir())
            if path.is_file() and not path.name.startswith(".")
        }


def _bad_datasets(kind: str) -> SearchStrategy[Files]:
    good = _good_dataset(kind)
    strategies = {name: changed_bytes([content]) for name, content in good.items()}
    for name, content in good.items():
        if name.endswith(".json"):
            strategies[name] = st.one_of(strategies[name], changed_json(json.loads(content)))
    with np.load(io.BytesIO(good[INDEX_FILE])) as index:
        strategies[INDEX_FILE] = st.one_of(strategies[INDEX_FILE], changed_npz(dict(index)))
    return changed_files(good, strategies)


def _open(folder: Path) -> None:
    """Open the dataset; changed images are tested in :mod:`benchmarks.fuzzing.images`."""
    prepared = open_prepared(folder)
    check_labels(prepared)
    assert len(prepared.source) == len(prepared.ids)
    for row in range(len(prepared.ids)):
        assert isinstance(prepared.source[row], bytes)
        assert prepared.masks is None or isinstance(prepared.masks[row], bytes)
    assert all(name.isprintable() for name in prepared.mask_classes)


TARGETS = (
    Target("prepared", lambda: _bad_datasets("folder"), _open, cost=20),
    Target("prepared-masks", lambda: _bad_datasets("pairs"), _open, cost=20),
)
