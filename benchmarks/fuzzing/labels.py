"""Targets that read labels and splits: of downloads, manifests, folders and split files."""

import functools
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy

import data.datasets.covid19_radiography.labels as covid19_radiography
import data.datasets.folder.labels as folder_of_images
import data.datasets.ham10000.labels as ham10000
import data.datasets.isic2018_task1.labels as isic2018_task1
import data.datasets.isic2019.labels as isic2019
import data.datasets.manifest.labels as manifest
import data.datasets.manifest_multilabel.labels as manifest_multilabel
import data.datasets.medmnist.labels as medmnist
import data.datasets.medmnist_multilabel.labels as medmnist_multilabel
import data.datasets.odir5k.labels as odir5k
import data.datasets.pairs.labels as pairs
from benchmarks.fuzzing.harness import Files, Target
from benchmarks.fuzzing.mutations import changed_bytes, changed_csv, changed_files, changed_json
from benchmarks.fuzzing.npz import changed_npz
from data.inputs.image_list import read_image_list
from data.inputs.metadata_columns import unknown_line
from data.labels import PARTS, Labels
from data.names import FolderPair
from data.prepared.images import Prepared
from data.splits.given_split import read_split
from data.splits.methods import make_split, possible_splits
from data.splits.split_file import stored_split
from lmf_jax.metadata_encoding import CategoryColumn, MetadataEncoding, NumberColumn


def check_labels(labels: Labels) -> None:
    """Check the invariants of :class:`Labels`."""
    n = len(labels.ids)
    assert n > 0
    assert labels.ids.dtype.kind == "U"
    assert len(set(labels.ids.tolist())) == n
    assert labels.labels.shape == (n,)
    assert labels.labels.dtype == np.int32
    assert 0 <= labels.labels.min() <= labels.labels.max() < len(labels.class_names)
    assert len(set(labels.class_names)) == len(labels.class_names)
    assert all(name.isprintable() for name in labels.class_names)
    assert labels.groups is None or (labels.groups.shape, labels.groups.dtype.kind) == ((n,), "U")
    assert labels.parts is None or set(labels.parts.tolist()) <= set(PARTS)
    if labels.label_vectors is not None:
        assert labels.label_vectors.shape == (n, len(labels.label_names))
        assert np.isin(labels.label_vectors, (-1, 0, 1)).all()
        assert (labels.label_vectors != -1).any(axis=1).all()
        assert len(set(labels.label_names)) == len(labels.label_names) > 1
    for column, values in labels.metadata.items():
        assert (values.shape, values.dtype.kind) == ((n,), "U")
        assert all(text.isprintable() for text in (column, *values.tolist()))
    for split in possible_splits(labels):
        make_split(labels, split, seed=0)


def _check_paths(raw: Path, labels: Labels, image_path: Callable[[Path, str], Path]) -> None:
    """Check that every image is in the folder of the labels."""
    folder = raw if raw.is_dir() else raw.parent
    for name in labels.ids.tolist():
        path = image_path(raw, name)
        assert ".." not in path.relative_to(folder).parts
        assert "\0" not in str(path)


def _reader(module: ModuleType, name: str = "") -> Callable[[Path], None]:
    def read(folder: Path) -> None:
        raw = folder / name
        labels = module.read_labels(raw)
        check_labels(labels)
        _check_paths(raw, labels, module.image_path)

    return read


def _one_hot(classes: tuple[str, ...]) -> str:
    rows = [f"ISIC_{i},{','.join('01'[i % 3 == j] for j in range(len(classes)))}" for i in range(6)]
    return "\n".join([f"image,{','.join(classes)}", *rows]) + "\n"


def _lesions(column: str) -> str:
    rows = [f"lesion_{i // 2},ISIC_{i},bkl,{'female' if i % 2 else ''}" for i in range(6)]
    return "\n".join([f"lesion_id,{column},dx,sex", *rows]) + "\n"


def _csv_files(**texts: str) -> SearchStrategy[Files]:
    """Return a strategy of CSV files, some of them changed."""
    named = {name.replace("__", ".").replace("--", "/"): text for name, text in texts.items()}
    good = {name: text.encode() for name, text in named.items()}
    return changed_files(good, {name: changed_csv(text) for name, text in named.items()})


def _bad_ham10000() -> SearchStrategy[Files]:
    return _csv_files(
        GroundTruth__csv=_one_hot(ham10000.CLASSES),
        HAM10000_metadata__csv=_lesions("image_id"),
    )


def _bad_isic2019() -> SearchStrategy[Files]:
    return _csv_files(
        ISIC_2019_Training_GroundTruth__csv=_one_hot((*isic2019.CLASSES, "UNK")),
        ISIC_2019_Training_Metadata__csv=_lesions("image"),
    )


def _bad_odir5k() -> SearchStrategy[Files]:
    rows = [f"{i // 2},{i}_left.jpg,['{odir5k.CLASSES[i % 3]}'],60" for i in range(8)]
    return _csv_files(full_df__csv="\n".join(["ID,filename,labels,Patient Age", *rows]))


def _bad_manifest() -> SearchStrategy[Files]:
    rows = [f"a/{i}.png,{'xy'[i % 2]},p{i // 2},{PARTS[i % 3]},{i}.0" for i in range(9)]
    return _csv_files(images__csv="\n".join(["path,label,group,split,age", *rows]))


def _bad_lists() -> SearchStrategy[Files]:
    rows = [f"a/{i}.png,{'' if i == 4 else i}.0,{'fm'[i % 2]}" for i in range(9)]
    return _csv_files(images__csv="\n".join(["path,age,sex", *rows]))


def _read_list(folder: Path) -> None:
    """Read a list of images, and encode its metadata as a run does."""
    files, metadata = read_image_list(folder / "images.csv")
    root = folder.resolve()
    assert all(file.parent.resolve().is_relative_to(root) for file in files)
    encoding = MetadataEncoding((NumberColumn("age", 4.0, 2.0), CategoryColumn("sex", ("f", "m"))))
    assert np.isfinite(encoding.encode(metadata, len(files))).all()
    line = unknown_line(encoding, metadata, len(files))
    assert line is None or line.isprintable()


def _bad_label_columns() -> SearchStrategy[Files]:
    rows = [f"a/{i}.png,{i % 2},{'' if i == 4 else i % 3 // 2},p{i // 2}" for i in range(9)]
    return _csv_files(images__csv="\n".join(["path,label:x,label:y,group", *rows]))


_NAMES = st.one_of(
    st.sampled_from(("a", "b", "train", "val", "test", "Train", "1.png", "2.JPG", ".x.png", "é")),
    st.sampled_from(
        ("e\u0301", "x\n.png", "x\x1b[2J.png", " a ", "a\\b.png", "__MACOSX", "x" * 200)
    ),
    st.text(st.characters(codec="utf-8", exclude_characters="/\0"), min_size=1, max_size=9).filter(
        lambda name: name not in (".", "..")
    ),
)


@st.composite
def _trees(draw: DrawFn, depths: tuple[str, ...], suffix: str = ".png") -> Files:
    """Draw a folder with files of any name in folders of these and other names."""
    paths = set()
    for _ in range(draw(st.integers(1, 8))):
        parents = draw(
            st.one_of(st.sampled_from(depths), st.lists(_NAMES, max_size=3).map("/".join))
        )
        name = draw(st.one_of(st.sampled_from(("1.png", "2.png")), _NAMES))
        paths.add(f"{parents}/{name}{draw(st.sampled_from(('', suffix)))}".lstrip("/"))
    # A path cannot be both a file and a folder.
    return {path: b"" for path in sorted(paths) if not any(p.startswith(f"{path}/") for p in paths)}


def _bad_folders() -> SearchStrategy[Files]:
    flat = ("a", "b", "c")
    parts = tuple(f"{part}/{name}" for part in ("train", "val", "test") for name in "ab")
    return st.one_of(_trees(flat), _trees(parts))


def _bad_covid() -> SearchStrategy[Files]:
    every = tuple(f"{name}/images" for name in covid19_radiography.CLASSES)
    good = {f"{folder}/1.png": b"" for folder in every}
    return st.one_of(
        _trees((*every, *covid19_radiography.CLASSES)),
        _trees((*every, *covid19_radiography.CLASSES)).map(
            lambda files: {k: v for k, v in files.items() if k.count("/") == 2} | good
        ),
    )


def _bad_medmnist() -> SearchStrategy[Files]:
    random = np.random.default_rng(0)
    arrays = {}
    for number, part in enumerate(("train", "val", "test"), start=2):
        arrays[f"{part}_images"] = random.integers(0, 256, (number, 5, 4), np.uint8)
        arrays[f"{part}_labels"] = random.integers(0, 7, (number, 1), np.uint8)
    return changed_npz(arrays).map(lambda content: {"dermamnist_28.npz": content})


def _read_medmnist(folder: Path) -> None:
    path = folder / "dermamnist_28.npz"
    labels = medmnist.read_labels(path)
    check_labels(labels)
    images = list(medmnist.encoded_images(path))
    assert len(images) == len(labels.ids)
    assert all(image[:2] in (b"P5", b"P6") for image in images)


def _bad_medmnist_multilabel() -> SearchStrategy[Files]:
    random = np.random.default_rng(0)
    arrays = {}
    for number, part in enumerate(("train", "val", "test"), start=2):
        arrays[f"{part}_images"] = random.integers(0, 256, (number, 5, 4), np.uint8)
        arrays[f"{part}_labels"] = random.integers(0, 2, (number, 14), np.uint8)
    return changed_npz(arrays).map(lambda content: {"chestmnist_28.npz": content})


def _read_medmnist_multilabel(folder: Path) -> None:
    check_labels(medmnist_multilabel.read_labels(folder / "chestmnist_28.npz"))


def _bad_isic2018() -> SearchStrategy[Files]:
    parts = ("images/train", "images/val", "images/test")
    good = {f"{part}/ISIC_{number}.jpg": b"" for number, part in enumerate(parts)}
    trees = _trees((*parts, "masks"), ".jpg")
    return st.one_of(trees, trees.map(lambda files: {**files, **good}))


@st.composite
def _bad_pairs(draw: DrawFn) -> Files:
    """Draw two folders, with changed files of class names and of groups."""
    parts = tuple(f"{kind}/{part}" for kind in ("images", "masks") for part in ("train", "val"))
    masks = ("masks/1.png", "masks/2_mask.png", "masks/2_mask_1.png")
    good = {name: b"" for name in ("images/1.png", "images/2.png", *masks)}
    depths = draw(st.sampled_from((("images", "masks"), ("images", "masks", *parts))))
    files = {**draw(_trees(depths)), **draw(st.sampled_from((good, good, {})))}
    texts = {"masks/classes.txt": "a\nb\nc\n", "masks/groups.csv": "image,group\n1.png,p\n2.png,p"}
    for name, text in texts.items():
        if draw(st.booleans()) and not any(path.startswith(f"{name}/") for path in files):
            files[name] = draw(st.one_of(changed_csv(text), changed_bytes([text.encode()])))
    return files


def _read_pairs(folder: Path) -> None:
    raw = FolderPair(folder / "images", folder / "masks")
    labels = pairs.read_labels(raw)
    check_labels(labels)
    ids = labels.ids.tolist()
    found = pairs.find_masks(raw, ids)
    assert set(found) <= set(ids)
    masks = [path for paths in found.values() for path in paths]
    assert len(set(masks)) == len(masks)
    assert all(".." not in path.relative_to(folder).parts for path in masks)
    assert all(isinstance(line, str) for line in pairs.unused_file_lines(raw))
    names = pairs.mask_classes(raw, {name: [0, 1] for name in found})
    assert 2 <= len(names) <= 256
    assert all(name.isprintable() for name in names)
    assert list(pairs.raw_files(raw))


def _prepared(folder: Path) -> Prepared:
    return Prepared(
        class_names=("a", "b"),
        ids=np.array([f"image-{i}" for i in range(20)]),
        labels=(np.arange(20) % 2).astype(np.int32),
        source=[b""] * 20,
        fingerprint=hashlib.sha256(b"").hexdigest(),
        folder=folder,
    )


def _stored(folder: Path) -> dict[str, np.ndarray]:
    prepared = _prepared(folder)
    make = functools.partial(make_split, prepared, "paper", 0)
    rows, fingerprint = stored_split("paper-seed0", prepared, make)
    assert len(fingerprint) == 64
    return rows


def _bad_splits() -> SearchStrategy[Files]:
    name = "splits/paper-seed0.json"
    prepared = _prepared(Path())
    rows = make_split(prepared, "paper", 0)
    digest = hashlib.sha256(prepared.fingerprint.encode())
    for part in PARTS:
        digest.update(f"{part} {len(rows[part])} ".encode())
        digest.update(rows[part].astype("<i8").tobytes())
    good = {"fingerprint": digest.hexdigest()}
    good |= {part: prepared.ids[rows[part]].tolist() for part in PARTS}
    bad = st.one_of(changed_json(good), changed_bytes([json.dumps(good).encode()]))
    return bad.map(lambda content: {name: content})


def _read_split(folder: Path) -> None:
    rows = _stored(folder)
    assert set(rows) == set(PARTS)
    for part in PARTS:
        assert rows[part].dtype == np.int64
        assert np.all((rows[part] >= 0) & (rows[part] < 20))


def _bad_given_splits() -> SearchStrategy[Files]:
    lines = [f"image-{i},{('train', 'val', 'test')[i % 3]}" for i in range(15)]
    return _csv_files(split__csv="\n".join(["image,part", *lines]))


def _read_given_split(folder: Path) -> None:
    rows = read_split(folder / "split.csv", _prepared(folder))
    assert sum(map(len, rows.values())) == len(set(np.concatenate(list(rows.values())).tolist()))
    assert all(len(rows[part]) for part in ("train", "test"))


TARGETS = (
    Target("ham10000", _bad_ham10000, _reader(ham10000)),
    Target("isic2019", _bad_isic2019, _reader(isic2019)),
    Target("isic2018_task1", _bad_isic2018, _reader(isic2018_task1)),
    Target("odir5k", _bad_odir5k, _reader(odir5k)),
    Target("covid19_radiography", _bad_covid, _reader(covid19_radiography)),
    Target("folder", _bad_folders, _reader(folder_of_images)),
    Target("manifest", _bad_manifest, _reader(manifest, "images.csv")),
    Target("manifest_multilabel", _bad_label_columns, _reader(manifest_multilabel, "images.csv")),
    Target("image-list", _bad_lists, _read_list),
    Target("medmnist", _bad_medmnist, _read_medmnist),
    Target("medmnist_multilabel", _bad_medmnist_multilabel, _read_medmnist_multilabel),
    Target("pairs", _bad_pairs, _read_pairs),
    Target("split-file", _bad_splits, _read_split),
    Target("given-split", _bad_given_splits, _read_given_split),
)
