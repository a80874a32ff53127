"""Opens a dataset that TensorFlow Datasets prepared as ArrayRecord, and prepares it on first use.

TensorFlow itself is never imported. Every builder stands in ``data/<name>/`` and yields the
features ``image`` (encoded bytes), ``label``, ``id`` and, where several images belong to one
patient or lesion, ``group``, in an order that does not depend on the file system.
"""

import contextlib
import hashlib
import importlib
import io
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int32, Shaped

from data.storage import building, replacing
from lmf_jax.errors import UserError

INDEX_FILE = "index.npz"


@dataclass(frozen=True)
class EncodedImages:
    """Random access to the encoded bytes of every image, by row number."""

    examples: Any  # tfds's data source, which has no public type

    def __len__(self) -> int:
        return len(self.examples)

    def __getitem__(self, row: int) -> bytes:
        """Returns the bytes of one image file, as they were given to the builder."""
        return self.examples[row]["image"]


@dataclass(frozen=True, eq=False)
class Prepared:
    """All examples of a dataset, before any split.

    Attributes:
        class_names: Name of every class, by class id.
        ids: Name of every example, unicode [n].
        labels: Class id of every example, [n].
        groups: Patient or lesion of every example, unicode [n]; None where the dataset has none.
        source: The encoded images.
        fingerprint: SHA-256, in hex, over class names, ids, labels, groups and encoded images.
    """

    class_names: tuple[str, ...]
    ids: Shaped[np.ndarray, " n"]
    labels: Int32[np.ndarray, " n"]
    groups: Shaped[np.ndarray, " n"] | None
    source: EncodedImages
    fingerprint: str


def open_prepared(name: str, data_dir: Path) -> Prepared:
    """Opens the dataset of that name under ``data_dir``; prepares it if it is not there.

    Any number of processes may call this at once: one prepares, the others wait for it.

    Args:
        name: Name of the dataset, and of its folder under ``data/``.
        data_dir: The folder of prepared datasets.

    Raises:
        UserError: If the dataset is not there and has to be downloaded by hand, or ``data_dir``
            cannot be written.
    """
    import tensorflow_datasets as tfds

    builder = builder_of(name, data_dir)
    folder = Path(builder.data_dir)
    if not folder.exists():
        if builder.MANUAL_DOWNLOAD_INSTRUCTIONS:
            raise UserError(
                f"{name} is not prepared in {data_dir}; download it and run: "
                f"python -m data prepare {name} --raw-dir DIR"
            )
        build(builder)
        builder = builder_of(name, data_dir)
    if not (folder / "dataset_info.json").exists():
        raise UserError(f"{folder} holds no whole dataset; remove it, and it is prepared anew.")
    class_names = tuple(builder.info.features["label"].names)
    examples = builder.as_data_source("all", decoders={"image": tfds.decode.SkipDecoding()})
    index = _read_index(folder / INDEX_FILE, examples, class_names)
    return Prepared(
        class_names=class_names,
        ids=index["ids"],
        labels=index["labels"],
        groups=index.get("groups"),
        source=EncodedImages(examples),
        fingerprint=str(index["fingerprint"]),
    )


def builder_of(name: str, data_dir: Path) -> Any:
    """Returns the TFDS builder of ``data/<name>/``."""
    module = importlib.import_module(f"data.{name}.{name}_dataset_builder")
    return module.Builder(data_dir=data_dir, file_format="array_record")


def build(builder: Any, raw_dir: Path | None = None) -> None:
    """Writes the dataset's files; does nothing if another process has just done so.

    Args:
        builder: A TFDS builder.
        raw_dir: The folder of the download, where the builder needs one.

    Raises:
        UserError: If the disk refuses.
    """
    import tensorflow_datasets as tfds

    tfds.display_progress_bar(sys.stderr.isatty())
    manual = tfds.download.DownloadConfig(manual_dir=raw_dir)
    # tfds announces itself on standard output, which belongs to the command that runs.
    with building(Path(builder.data_dir)), contextlib.redirect_stdout(io.StringIO()):
        try:
            builder.download_and_prepare(download_config=manual)
        except OSError:
            # On a disk without locks another process may have put the same files there first.
            if not Path(builder.data_dir).exists():
                raise


def _read_index(path: Path, examples: Any, class_names: tuple[str, ...]) -> Mapping[str, Any]:
    """Returns what is needed of all examples at once; reads every image only the first time."""
    if not path.exists():
        with building(path):
            if not path.exists():
                with replacing(path) as file:
                    np.savez(file, **_make_index(examples, class_names))
    with np.load(path, allow_pickle=False) as stored:
        return dict(stored)


def _make_index(examples: Any, class_names: tuple[str, ...]) -> dict[str, Any]:
    """Collects ids, labels and groups, and hashes them together with the encoded images."""
    ids, labels, groups = [], [], []
    digest = hashlib.sha256()
    for class_name in class_names:
        _hash_fields(digest, class_name.encode())
    for example in examples:
        group = example.get("group", b"")
        _hash_fields(digest, example["id"], b"%d" % example["label"], group, example["image"])
        ids.append(example["id"].decode())
        labels.append(example["label"])
        groups.append(group.decode())
    index = {
        "ids": np.array(ids),
        "labels": np.array(labels, np.int32),
        "fingerprint": np.array(digest.hexdigest()),
    }
    return index | ({"groups": np.array(groups)} if any(groups) else {})


def _hash_fields(digest: Any, *fields: bytes) -> None:
    """Adds each field with its length, so that no two lists of fields hash alike."""
    for field in fields:
        digest.update(len(field).to_bytes(8, "little"))
        digest.update(field)
