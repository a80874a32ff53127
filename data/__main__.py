"""``python -m data prepare`` and ``python -m data audit``: prepare and check datasets."""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro
from jaxtyping import Int64

from data.audit.audit import audit_split, format_audit
from data.audit.class_distribution import save_class_figure
from data.audit.duplicates import ImageHashes, hash_images
from data.audit.label_conflicts import conflict_lines, image_digests, label_conflicts
from data.audit.published import count_difference_lines, shared_image_lines
from data.builders.images import SKIPPED_FILE
from data.builders.unused_files import unused_file_lines
from data.file_names import on_disk
from data.formats.intensity import parse_range
from data.formats.masks import count_mask_pixels
from data.labels import Labels, Rows
from data.names import parse_name, parse_volumes_name, readable
from data.prepared.images import Prepared, open_prepared
from data.prepared.prepare import is_prepared, open_dataset, prepare
from data.prepared.recorded_metadata import record_missing_metadata
from data.prepared.recorded_range import update_recorded_range
from data.registry import default_settings, find_dataset, registered_datasets
from data.splits.given_split import read_split, split_csv
from data.splits.methods import make_split, possible_splits
from data.splits.opened_split import open_split
from data.splits.selection import Selection, select_rows, where_key
from data.splits.validation_cut import lacks_validation
from data.storage import build_lock, replacing
from lmf_jax.cli.parser import parse_in_one_line
from lmf_jax.config import DEFAULT_DATA_DIR
from lmf_jax.errors import UserError, printable, run_command

Name = Annotated[
    str,
    tyro.conf.arg(
        help="Dataset: "
        + "; ".join(f"{spec.form} ({spec.summary})" for spec in registered_datasets().values())
        + ".",
        metavar="NAME",
    ),
    tyro.conf.Positional,
]


@dataclass(frozen=True)
class Prepare:
    """Check every image of a dataset and prepare it; an interrupted command can be repeated."""

    name: Name
    raw_dir: str | None = None
    """Folder of the download; not needed by folder:PATH and other files of your own."""
    data_dir: str = DEFAULT_DATA_DIR
    """Folder of prepared datasets."""
    skip_broken: bool = False
    """Leave out images that are missing or cannot be decoded, and list them in a file."""
    intensity_range: Annotated[str | None, tyro.conf.arg(metavar="LOW,HIGH")] = None
    """Values that become black and white in grayscale images of more than 8 bits (default: 0 to
    the largest value of the bits in use)."""


@dataclass(frozen=True)
class Audit:
    """Print the classes of each part of a split, and the test images also in training."""

    name: Name
    labels_only: bool = False
    """Read the label files alone, without images or a prepared dataset; of a download, those in
    --raw-dir."""
    raw_dir: str | None = None
    """Folder of the download, with --labels-only."""
    split_seed: int = 0
    """Seed of the splits."""
    split_file: str | None = None
    """Audit the split in this file instead: CSV with the columns image and part (train, val or
    test), or JSON with the images of each part."""
    where: str | None = None
    """Split and audit only images with this metadata: COLUMN=VALUE or COLUMN=VALUE,VALUE, with ;
    between conditions (default: all images)."""
    data_dir: str = DEFAULT_DATA_DIR
    """Folder of prepared datasets; the audit is written to audits/ in it."""


def run_prepare(options: Prepare) -> None:
    """Prepare a dataset, and print its classes and where they differ from the published ones."""
    data_dir = Path(options.data_dir).expanduser()
    given = None if options.intensity_range is None else parse_range(options.intensity_range)
    spec = find_dataset(options.name)
    if spec is not None and spec.has_volumes:
        if given is not None:
            raise UserError(
                f"--intensity-range is for images, and {options.name} has volumes; leave it out."
            )
        _prepare_volumes(options, data_dir)
        return
    raw_dir = _raw_dir(options.name, options.raw_dir)
    was_prepared = is_prepared(options.name, data_dir)
    prepared = prepare(
        options.name, raw_dir, data_dir, skip_broken=options.skip_broken, intensity_range=given
    )
    if was_prepared:
        update_recorded_range(prepared, options.name, given)
        raw = raw_dir or parse_name(options.name).raw
        if raw is not None:
            record_missing_metadata(prepared, options.name, raw)
        prepared = open_prepared(prepared.folder)
    print(_class_table(prepared))
    for line in [
        *count_difference_lines(options.name, prepared),
        *shared_image_lines(options.name, prepared, data_dir),
        *conflict_lines(label_conflicts(prepared, image_digests(prepared.source))),
        *_remarks(prepared),
        *unused_file_lines(options.name),
    ]:
        print(line)
    if was_prepared:
        print(_already_prepared(prepared.folder))


def _prepare_volumes(options: Prepare, data_dir: Path) -> None:
    """Prepare a dataset of volumes, and print the number of voxels of each class."""
    from data.prepared.own_volumes import prepare_own_volumes
    from data.prepared.prepare_volumes import prepare_volumes
    from data.prepared.volume_lines import volume_lines
    from data.prepared.volumes import (
        open_complete,
        volumes_folder,
    )  # these need SciPy, and nibabel for raw files

    name = options.name
    is_own = parse_volumes_name(name).raw is not None
    if is_own == (options.raw_dir is not None):
        raise UserError(_raw_dir_error(name, options.raw_dir))
    folder = volumes_folder(name, data_dir)
    was_prepared = open_complete(name, folder) is not None
    raw_dir = None
    if options.raw_dir is None:
        prepared = prepare_own_volumes(name, data_dir, skip_broken=options.skip_broken)
    else:
        raw_dir = Path(options.raw_dir).expanduser()
        prepared = prepare_volumes(name, raw_dir, data_dir, skip_broken=options.skip_broken)
    for line in volume_lines(prepared, name, None if was_prepared else raw_dir):
        print(line)
    if was_prepared:
        print(_already_prepared(prepared.folder))


def _already_prepared(folder: Path) -> str:
    return f"it was already prepared; to prepare it again, remove {folder}"


def _raw_dir_error(name: str, raw_dir: str | None) -> str:
    if raw_dir is None:
        return f"{name} needs --raw-dir, the folder of the download."
    return f"{name} takes no --raw-dir; leave it out."


def _remarks(prepared: Prepared) -> list[str]:
    """Return remarks on a prepared dataset for the terminal, one line each."""
    lines = []
    skipped = prepared.folder / SKIPPED_FILE
    if skipped.exists():
        lines.append(f"{len(skipped.read_bytes().splitlines())} images left out: {skipped}")
    if prepared.intensities is not None:
        lines.append(prepared.intensities.line)
    if prepared.dicom is not None:
        lines += prepared.dicom.lines
    if prepared.masks is not None:
        lines.append(f"every pixel is one of: {', '.join(prepared.mask_classes)}")
    if prepared.metadata:
        lines.append(f"metadata: {', '.join(prepared.metadata)}")
    if prepared.groups is None:
        lines.append("no patients or lesions are known, so no split can keep their images together")
    if lacks_validation(prepared):
        lines.append("there is no validation part: train.py takes 15 % of the training part for it")
    return lines


def _class_table(labels: Labels) -> str:
    """Return the number of images of each class or with each label, one line each."""
    counts = np.bincount(labels.labels, minlength=len(labels.class_names))
    names = labels.class_names
    if labels.label_vectors is not None:
        counts, names = np.count_nonzero(labels.label_vectors == 1, axis=0), labels.label_names
    width = max(map(len, names))
    return "\n".join(f"{name:{width}}{count:8d}" for name, count in zip(names, counts, strict=True))


def run_audit(options: Audit) -> None:
    """Print a table for each split, and write ``audit.json`` and ``classes.png``."""
    data_dir = Path(options.data_dir).expanduser()
    labels, splits, hashes = load_for_audit(options, data_dir)
    pixels = _pixels(labels)
    seed = options.split_seed if options.split_file is None else None
    audits = [
        audit_split(labels, split, rows, seed, hashes, pixels) for split, rows in splits.items()
    ]
    broken = [] if hashes is None else labels.ids[hashes.broken].tolist()
    conflicts = [] if hashes is None else label_conflicts(labels, hashes.digests)
    print("\n\n".join(map(format_audit, audits)))
    if broken:
        print(f"{len(broken)} images cannot be decoded: {', '.join(broken)}")
    for line in [
        *_lines_without_part(labels, splits, options),
        *conflict_lines(conflicts),
        *shared_image_lines(options.name, labels, data_dir),
        *unused_file_lines(options.name),
    ]:
        print(line)
    name = parse_name(options.name)
    folder = data_dir / "audits" / f"{name.label}{_folder_suffix(options)}"
    results = {
        "dataset": options.name,
        "where": options.where,
        "splits": list(map(asdict, audits)),
        "broken": broken,
        "label_conflicts": list(map(asdict, conflicts)),
    }
    with build_lock(folder / "audit.json"), replacing(folder / "audit.json") as file:
        file.write(json.dumps(results, indent=1, allow_nan=False).encode() + b"\n")
    title = name.kind if name.path is None else name.path.absolute().name
    save_class_figure(audits, title, folder / "classes.png")
    written = ["audit.json", "classes.png"]
    if options.split_file is None:
        written += _write_splits(folder / "splits", labels, splits)
    print(f"written to {folder}: {', '.join(written)}")


def _lines_without_part(labels: Labels, splits: dict[str, Rows], options: Audit) -> list[str]:
    """Return the number of images that a split file does not name, as a line."""
    if options.split_file is None:
        return []
    ((_, rows),) = splits.items()
    count = len(labels.ids) - sum(map(len, rows.values()))
    return [f"{count} images of the dataset are in no part of the split"] if count else []


def _folder_suffix(options: Audit) -> str:
    """Return the suffix of the folder of an audit of some images, or of a split file."""
    if options.split_file is not None:
        return f"-split-{readable(Path(options.split_file))}"
    return "" if options.where is None else f"-where-{where_key(options.where)}"


def _write_splits(folder: Path, labels: Labels, splits: dict[str, Rows]) -> list[str]:
    """Write every split as CSV; return the names of the files."""
    for split, rows in splits.items():
        path = folder / f"{split}.csv"
        with build_lock(path), replacing(path) as file:
            file.write(split_csv(labels, rows).encode())
    return [f"splits/{split}.csv" for split in splits]


def _pixels(labels: Labels) -> dict[str, Int64[np.ndarray, " n"]] | None:
    """Return the pixels of each class in every mask by class name, or None without masks."""
    if not isinstance(labels, Prepared) or labels.masks is None:
        return None
    counts = count_mask_pixels(labels.masks, labels.ids, len(labels.mask_classes))
    return dict(zip(labels.mask_classes, counts.T, strict=True))


def load_for_audit(
    options: Audit, data_dir: Path
) -> tuple[Labels, dict[str, Rows], ImageHashes | None]:
    """Return the labels, the splits and, unless labels are enough, the hashes of the images.

    Raises:
        UserError: If the options contradict each other, or there is no such dataset.
    """
    seed = options.split_seed
    if not 0 <= seed < 2**32:
        raise UserError(f"--split-seed is {seed}; expected a whole number in [0, 2**32).")
    if options.split_file is not None and options.where is not None:
        raise UserError("--where does not go with --split-file, which names its images itself.")
    if options.labels_only:
        labels = _labels_of_files(options)
        if options.split_file is not None:
            return labels, _given_split(options.split_file, labels), None
        if options.where is not None:
            labels = labels.only(select_rows(labels.metadata, options.where, options.name))
        return labels, {s: make_split(labels, s, seed) for s in possible_splits(labels)}, None
    if options.raw_dir is not None:
        raise UserError("--raw-dir goes with --labels-only; a prepared dataset needs none.")
    prepared = open_dataset(options.name, data_dir)
    if options.split_file is not None:
        given = _given_split(options.split_file, prepared)
        return prepared, given, hash_images(prepared.source, prepared.intensity_range)
    ratio = default_settings(options.name).get("imbalance_ratio")
    selection = None
    if options.where is not None:
        selection = Selection.of(prepared, options.where, options.name)
    labels = prepared if selection is None else prepared.only(selection.rows)
    splits = {
        split: open_split(prepared, split, seed, ratio, selection=selection).rows
        for split in possible_splits(labels)
    }
    return prepared, splits, hash_images(prepared.source, prepared.intensity_range)


def _given_split(split_file: str, labels: Labels) -> dict[str, Rows]:
    """Return the split of a file, by the name of the file."""
    path = Path(split_file).expanduser()
    return {printable(path.name): read_split(path, labels)}


def _labels_of_files(options: Audit) -> Labels:
    name = parse_name(options.name)
    raw = _raw_dir(options.name, options.raw_dir) or name.raw
    if raw is None:
        raise UserError(f"{options.name} has no label files; leave --labels-only out.")
    labels: Labels = name.spec.labels_module().read_labels(raw)
    return labels


def _raw_dir(name: str, raw_dir: str | None) -> Path | None:
    """Return the folder of a download; reject it for a dataset that is not downloaded."""
    if (parse_name(name).spec.kind == "download") != (raw_dir is not None):
        raise UserError(_raw_dir_error(name, raw_dir))
    return None if raw_dir is None else on_disk(Path(raw_dir).expanduser())


def main() -> None:
    """Run the command of the command line."""
    commands: dict[str, Callable[..., Prepare | Audit]] = {"prepare": Prepare, "audit": Audit}
    options = parse_in_one_line(
        lambda: tyro.extras.subcommand_cli_from_dict(
            commands,
            prog="python -m data",
            description=__doc__,
            config=(tyro.conf.FlagCreatePairsOff, tyro.conf.DisallowNone),
        ),
        (Prepare, Audit),
    )
    if isinstance(options, Prepare):
        run_prepare(options)
    else:
        run_audit(options)


if __name__ == "__main__":
    run_command("python -m data", main)
