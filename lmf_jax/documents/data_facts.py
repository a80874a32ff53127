"""Facts on the data of a run, their split and their preprocessing."""

from collections.abc import Callable, Sequence

from lmf_jax.documents.facts import Block, Fact, sentence, table
from lmf_jax.documents.run_files import DocumentedRun
from lmf_jax.evaluation.formatting import format_count, format_ratio, format_setting
from lmf_jax.runs.files import PARTS

Blocks = tuple[Block, ...]

SPLITS = {
    "grouped": (
        "grouped (lesions or patients are assigned to the parts as a whole, stratified by class, "
        "about 70 : 15 : 15)"
    ),
    "paper": "paper (each class is split 70 : 15 : 15 at random, image by image)",
    "official": "official (the split that is published with the dataset)",
}
SPLITS_OF_MASKS = {
    "grouped": (
        "grouped (lesions or patients are assigned to the parts as a whole, about 70 : 15 : 15)"
    ),
    "paper": "paper (images are split 70 : 15 : 15 at random)",
}
_OF_FOLDS = "a fold is the test part, and 15 % of the other images are the validation part"
SPLITS_OF_FOLDS = {
    "grouped": f"grouped (lesions or patients are assigned to folds as a whole; {_OF_FOLDS})",
    "paper": f"paper (images are assigned to folds at random; {_OF_FOLDS})",
}
SPLIT_OF_VOLUMES = "{} (cases are split 70 : 15 : 15 at random)"
SPLIT_OF_PATIENTS = "grouped (patients are assigned to the parts as a whole, about 70 : 15 : 15)"

DISJOINT = {
    "grouped": "no lesion or patient is in two parts (split grouped)",
    "paper": (
        "no image is in two parts, but images of one lesion or patient can be in different parts "
        "(split paper)"
    ),
    "official": (
        "no image is in two parts; for lesions and patients it depends on the published split "
        "(split official)"
    ),
}
DISJOINT_VOLUMES = "no case is in two parts, and every case is another patient (split {})"
DISJOINT_OWN_VOLUMES = "no case is in two parts; the patients of the cases are unknown (split {})"
DISJOINT_PATIENTS = {
    "grouped": "no patient is in two parts (split grouped)",
    "paper": (
        "no case is in two parts, but cases of one patient can be in different parts (split paper)"
    ),
}
"""Of volumes whose patients are known from DICOM files."""

NORMALIZATIONS = {
    "imagenet": (
        "imagenet (each channel minus its mean over ImageNet, divided by its standard deviation)"
    ),
    "unit": "unit (pixel values divided by 255)",
    "inception": "inception (pixel values scaled to [-1, 1])",
    "caffe": "caffe (channels in the order BGR, minus their ImageNet means)",
}


def dataset(run: DocumentedRun) -> Blocks:
    """Name the dataset, its classes and its fingerprint."""
    config, names = run.config, run.class_names
    return (
        *sentence("Dataset: {}.", config.fact("dataset", "name")),
        *sentence(
            "Classes: {}.",
            config.tell(f"{len(names)} ({', '.join(names)})", "dataset", "class_names"),
        ),
        *sentence(
            "Fingerprint of the images, labels and parts: {}.",
            config.fact("dataset", "fingerprint"),
        ),
        *sentence(
            "Balanced dataset, made long-tailed: the largest training class has {} times the "
            "images of the smallest.",
            config.fact("config", "imbalance_ratio", show=format_ratio),
        ),
    )


def counts(run: DocumentedRun) -> Blocks:
    """Count the images, or the pixels or voxels, of each part and class."""
    config = run.config
    rows: list[tuple[Fact | str | None, ...]] = []
    for class_id, name in enumerate(run.class_names):
        keys = [("dataset", "class_counts", part, class_id) for part in PARTS]
        cells = (config.fact(*key, show=format_count) for key in keys)
        rows.append((config.tell(name, "dataset", "class_names", class_id), *cells))
    sums = []
    for part in PARTS:
        key = ("dataset", "class_counts", part)
        sums.append(config.tell(format_count(sum(config.get(*key))), *key))
    header = ("class", *(f"{part} ({run.classified}s)" for part in PARTS))
    return table(header, [*rows, ("all", *sums)])


def proportions(run: DocumentedRun) -> Blocks:
    """State the number and the share of the images, or cases, of each part."""
    is_cases = run.is_segmentation
    key = ("dataset", "num_cases" if is_cases else "class_counts")
    found = run.config.get(*key)
    sizes = [found[part] if is_cases else sum(found[part]) for part in PARTS]
    unit = f"{run.example}s"
    if run.is_cross_validation:
        return sentence(
            f"Number of {unit}: {{}}, each tested once; of a fold, on average {{}} for training "
            "and {} for validation.",
            *(
                run.config.tell(format_count(sizes[PARTS.index(part)]), *key, part)
                for part in ("test", "train", "validation")
            ),
        )
    total = max(1, sum(sizes))
    facts = []
    for part, size in zip(PARTS, sizes, strict=True):
        facts.append(run.config.tell(format_count(size), *key, part))
        facts.append(run.config.tell(f"{100 * size / total:.1f} %", *key))
    return sentence(
        f"Number of {unit}: {{}} for training ({{}}), {{}} for validation ({{}}) and {{}} for the "
        "test ({}).",
        *facts,
    )


def imbalance(run: DocumentedRun) -> Blocks:
    """State the ratio of the largest to the smallest training class."""
    key = ("dataset", "class_counts", "train")
    train = run.config.get(*key)
    if min(train) < 1:
        return ()
    ratio = run.config.tell(format_ratio(max(train) / min(train)), *key)
    words = f"The largest training class has {{}} times the {run.classified}s of the smallest."
    return sentence(words, ratio)


def split(run: DocumentedRun) -> Blocks:
    """Describe the method of the split, its seed and its remarks."""
    config = run.config
    return (
        *sentence("Method of the split: {}.", config.fact("config", "split", show=_method(run))),
        *sentence("Seed of the split: {}.", config.fact("config", "split_seed")),
        *sentence("Version of the split method: {}.", config.fact("dataset", "split_version")),
        *split_notes(run),
    )


def split_notes(run: DocumentedRun) -> Blocks:
    """Return the remarks of the split, such as classes that a part lacks."""
    notes = run.config.get("dataset", "split_notes") or ()
    return tuple(
        block
        for number in range(len(notes))
        for block in sentence(
            "Note on the split: {}", run.config.fact("dataset", "split_notes", number)
        )
    )


def _method(run: DocumentedRun) -> Callable[[str], str]:
    is_of_patients = run.config.get("dataset", "num_patients") is not None

    def describe(split: str) -> str:
        if run.setting("folds") is not None:
            return SPLITS_OF_FOLDS.get(split, split)
        if run.has_volumes and split == "grouped" and is_of_patients:
            return SPLIT_OF_PATIENTS
        if run.has_volumes:
            return SPLIT_OF_VOLUMES.format(split)
        of_masks = SPLITS_OF_MASKS if run.is_segmentation else {}
        return of_masks.get(split) or SPLITS.get(split, split)

    return describe


def disjoint(run: DocumentedRun) -> Blocks:
    """State at which level the parts are disjoint."""

    def describe(split: str) -> str:
        if not run.has_volumes:
            return DISJOINT.get(split, split)
        if run.config.get("dataset", "num_patients") is not None:
            return DISJOINT_PATIENTS.get(split, split)
        is_own = run.config.get("dataset", "plan") is not None
        return (DISJOINT_OWN_VOLUMES if is_own else DISJOINT_VOLUMES).format(split)

    return sentence("Level of the parts: {}.", run.config.fact("config", "split", show=describe))


def preprocessing(run: DocumentedRun) -> Blocks:
    """Describe how the images become the input of the model."""
    config = run.config
    if run.has_volumes:
        return (
            *sentence(
                "Voxels of all cases have the size {} mm (z, y, x).",
                config.fact("dataset", "spacing", show=format_setting),
            ),
            *sentence("Modalities: {}.", config.fact("dataset", "modalities", show=format_setting)),
            *sentence(
                "Normalization of the modalities (ct: by the statistics of the foreground of the "
                "training cases; z-score: case by case): {}.",
                config.fact("dataset", "plan", "schemes", show=format_setting),
            ),
            *_intensity(run),
            *sentence(
                "Patches of the training: {} voxels (z, y, x).",
                config.fact("config", "patch_size", show=format_setting),
            ),
            *sentence(
                "Fraction of these patches that are centered on a foreground voxel: {}.",
                config.fact("config", "foreground_share", show=lambda share: f"{share:.3g}"),
            ),
            *sentence(
                "Windows of the test overlap by a fraction of {} of the patch.",
                config.fact("config", "overlap", show=format_setting),
            ),
        )
    if config.get("dataset", "intensities") is not None:  # whole volumes
        return (
            *sentence(
                "Volumes are read along the axes of the body and resampled with antialiased linear "
                "interpolation to this depth, height and width in voxels: {}.",
                config.fact("config", "image_size", show=_format_size),
            ),
            *sentence(
                "Values as bytes: {}.", config.fact("dataset", "intensities", show=format_setting)
            ),
            *_normalization(run),
        )
    is_gray = config.get("config", "channels") == 1
    resize = config.fact("config", "resize", show=lambda name: RESIZING.get(name, name))
    return (
        *sentence(
            f"Images are decoded to {'gray' if is_gray else 'RGB'} and resized with antialiased "
            "bilinear interpolation to this height and width in pixels"
            f"{_UNRECORDED_RESIZE if resize is None else ''}: {{}}.",
            config.fact("config", "image_size", show=_format_size),
        ),
        *sentence("Images of another aspect ratio: {}.", resize),
        *sentence(
            "Range of the pixel values that is mapped to black and white in images of high bit "
            "depth: {}.",
            config.fact("dataset", "intensity_range", show=format_setting),
        ),
        *_normalization(run),
    )


def _normalization(run: DocumentedRun) -> Blocks:
    def describe(name: str) -> str:
        return NORMALIZATIONS.get(name, name)

    return sentence("Normalization: {}.", run.config.fact("config", "normalisation", show=describe))


_UNRECORDED_RESIZE = ", whatever their aspect ratio"
"""Of runs of earlier versions, which have no setting of it."""

RESIZING = {
    "stretch": "stretch (resized whatever their aspect ratio)",
    "pad": "pad (they keep it, and the rest of the image is black)",
    "crop": "crop (they keep it, and what does not fit is cut off on both sides)",
}


def _format_size(size: int | Sequence[int]) -> str:
    return " x ".join(map(str, (size, size) if isinstance(size, int) else size))


def _intensity(run: DocumentedRun) -> Blocks:
    """State the statistics that normalize each CT."""
    statistics = run.config.get("dataset", "intensity") or ()
    keys = ("low", "high", "mean", "std")
    return tuple(
        block
        for number in range(len(statistics))
        for block in sentence(
            "The modality {} is clipped to {} and {}, reduced by {} and divided by {}.",
            run.config.fact("dataset", "modalities", number),
            *(
                run.config.fact("dataset", "intensity", number, key, show=lambda x: f"{x:.4g}")
                for key in keys
            ),
        )
    )


TOPICS = {
    "dataset": dataset,
    "counts": counts,
    "proportions": proportions,
    "imbalance": imbalance,
    "split": split,
    "disjoint": disjoint,
    "preprocessing": preprocessing,
}
