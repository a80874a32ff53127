"""Leakage of a split: test images whose patient, lesion or picture is also in training."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Int64

from data.audit.duplicates import ImageHashes, Overlap, Pair, count_overlaps, find_duplicate_pairs
from data.labels import PARTS, Labels, Rows
from data.splits.notes import VALIDATION_FROM_TRAINING, split_notes


@dataclass(frozen=True)
class SamePicture:
    """Two images in two parts that show the same picture.

    Attributes:
        parts: The two parts.
        images: Name of the image in each.
        identical: Whether they are the same byte for byte.
        distance: Bits in which their perceptual hashes differ, of 512.
        same_group: Whether they are of one patient or lesion; None if unknown.
    """

    parts: tuple[str, str]
    images: tuple[str, str]
    identical: bool
    distance: int
    same_group: bool | None


@dataclass(frozen=True)
class SplitAudit:
    """Audit of a split.

    Attributes:
        split: "official", "paper" or "grouped", or the name of a split file.
        split_seed: Seed of the split; None for a split file.
        class_counts: Images of each class by part, by class name.
        imbalance_ratio: Largest over smallest class of the training part; None if one is empty.
        leaked: Test images of each class whose group is also in training, by class name; None
            if the dataset has no groups.
        overlaps: Pictures that two parts share, for every two parts; None if no image was read.
        same_pictures: Pairs of images behind them; None if no image was read.
        pixel_shares: Fraction of the pixels of each part that a class has, by class name; None
            without masks.
        notes: Remarks on the split, such as a class that a part lacks.
    """

    split: str
    split_seed: int | None
    class_counts: dict[str, dict[str, int]]
    imbalance_ratio: float | None
    leaked: dict[str, int] | None
    overlaps: list[Overlap] | None = None
    same_pictures: list[SamePicture] | None = None
    pixel_shares: dict[str, dict[str, float]] | None = None
    notes: list[str] = field(default_factory=list)

    def total(self, part: str) -> int:
        """Return the number of images in a part."""
        return sum(self.class_counts[part].values())


def audit_split(
    labels: Labels,
    split: str,
    rows: Rows,
    split_seed: int | None,
    hashes: ImageHashes | None = None,
    pixels: Mapping[str, Int64[np.ndarray, " n"]] | None = None,
) -> SplitAudit:
    """Count the images of each part and class, and those that leak.

    Args:
        labels: Labels of the dataset.
        split: Name of the split, or of a split file.
        rows: Row numbers of its parts.
        split_seed: Seed of the split; None for a split file.
        hashes: Hashes of the images, to find the same picture in two parts; None skips this.
        pixels: Pixels of each class in the mask of every image, [n], by class name; None without
            masks.
    """
    counts = {part: _per_class(labels, rows[part]) for part in PARTS}
    smallest = min(counts["train"].values())
    leaked = None
    if labels.groups is not None:
        also_trained_on = np.isin(labels.groups[rows["test"]], labels.groups[rows["train"]])
        leaked = _per_class(labels, rows["test"][also_trained_on])
    pairs = None if hashes is None else find_duplicate_pairs(hashes, rows)
    return SplitAudit(
        split=split,
        split_seed=split_seed,
        class_counts=counts,
        imbalance_ratio=max(counts["train"].values()) / smallest if smallest else None,
        leaked=leaked,
        overlaps=None if pairs is None else count_overlaps(pairs),
        same_pictures=None if pairs is None else [_named(pair, labels) for pair in pairs],
        pixel_shares=None if pixels is None else _pixel_shares(pixels, rows),
        notes=split_notes(labels, rows, None if split_seed is None else split),
    )


def _pixel_shares(
    pixels: Mapping[str, Int64[np.ndarray, " n"]], rows: Rows
) -> dict[str, dict[str, float]]:
    totals = {
        part: max(1, sum(int(of[rows[part]].sum()) for of in pixels.values())) for part in PARTS
    }
    return {
        name: {part: int(of_class[rows[part]].sum()) / totals[part] for part in PARTS}
        for name, of_class in pixels.items()
    }


def _named(pair: Pair, labels: Labels) -> SamePicture:
    first, second = pair.rows
    groups = labels.groups
    return SamePicture(
        parts=pair.parts,
        images=(str(labels.ids[first]), str(labels.ids[second])),
        identical=pair.identical,
        distance=pair.distance,
        same_group=None if groups is None else bool(groups[first] == groups[second]),
    )


def format_audit(audit: SplitAudit) -> str:
    """Return a table: a line per class, the counts of each part, and the leakage.

    Args:
        audit: From :func:`audit_split`.
    """
    shares = audit.pixel_shares or {}
    titles = {name: f"pixels of {name}" for name in shares}
    width = max(len("class"), *map(len, (*audit.class_counts["train"], *titles.values())))
    heading = f"{'class':{width}}" + "".join(f"{part:>12}" for part in PARTS)
    leaks = audit.leaked is not None
    lines = [heading + (f"{'leaked':>12}" if leaks else "")]
    has_classes = len(audit.class_counts["train"]) > 1
    for name in audit.class_counts["train"] if has_classes else ():
        lines.append(_line(name, width, audit, [name]))
    lines.append(_line("all", width, audit, list(audit.class_counts["train"])))
    for name, of_part in shares.items():
        columns = "".join(f"{of_part[part]:12.2%}" for part in PARTS)
        lines.append(f"{titles[name]:{width}}{columns}")
    is_fixed = audit.split == "official" and VALIDATION_FROM_TRAINING not in audit.notes
    is_fixed = is_fixed or audit.split_seed is None
    seed = "" if is_fixed else f", seed {audit.split_seed}"
    facts = [f"split {audit.split}{seed}"]
    if has_classes:
        facts.append(f"imbalance ratio {format_ratio(audit.imbalance_ratio)}")
    if audit.leaked is not None:
        count, total = sum(audit.leaked.values()), audit.total("test")
        share = f" ({count / total:.1%})" if total else ""
        facts.append(f"{count} of {total} test images{share} share a group with training")
    overlaps = map(_same_pictures, audit.overlaps or ())
    return "\n".join([", ".join(facts), *lines, *audit.notes, *overlaps])


def _same_pictures(overlap: Overlap) -> str:
    first, second = overlap.parts
    return (
        f"same picture in {first} and {second}: {overlap.images} {second} images "
        f"({overlap.identical_pairs} pairs byte for byte, {overlap.near_pairs} nearly)"
    )


def format_ratio(imbalance_ratio: float | None) -> str:
    """Return an imbalance ratio as text."""
    return "endless" if imbalance_ratio is None else f"{imbalance_ratio:.1f}"


def _line(title: str, width: int, audit: SplitAudit, names: list[str]) -> str:
    columns = [sum(audit.class_counts[part][name] for name in names) for part in PARTS]
    if audit.leaked is not None:
        columns.append(sum(audit.leaked[name] for name in names))
    return f"{title:{width}}" + "".join(f"{count:12d}" for count in columns)


def _per_class(labels: Labels, rows: Int64[np.ndarray, " _"]) -> dict[str, int]:
    counts = np.bincount(labels.labels[rows], minlength=len(labels.class_names))
    return dict(zip(labels.class_names, counts.tolist(), strict=True))
