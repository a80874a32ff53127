"""Plan of the preparation of the user's volumes, chosen once and recorded with the result."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, get_args

from data.datasets.volumes.dataset_json import MOST_LABELS
from data.datasets.volumes.intensity import Scheme, normalizer
from data.datasets.volumes.layout import find_images
from data.formats.nifti import LARGEST_LABEL
from data.volume_spec import VolumeSpec

VERSION = 1
"""Version of the rules; changes if the same files would give another plan."""


@dataclass(frozen=True)
class Plan:
    """Choices for a dataset of the user, the same for every split.

    Attributes:
        class_names: Name of every class, by class id; the background is the first.
        label_values: Label in the files of every class, by class id.
        modalities: Name of every modality.
        schemes: Normalization of every modality.
        spacing: Size of a prepared voxel along z, y, x, in mm.
        padding: Prepared value of every modality outside a volume.
        crop: Whether voxels of 0 are outside of the body: they are cropped and stay 0.
        is_numbered: Whether the names of images end in the number of the modality.
        patch_size: Voxels of a training patch along z, y, x.
        batch_size: Patches in a batch.
        num_cases: Number of cases that the plan was made from.
        foreground: SHA-256, in hex, over the foreground samples of CT.
        version: :data:`VERSION` when it was made.
    """

    class_names: tuple[str, ...]
    label_values: tuple[int, ...]
    modalities: tuple[str, ...]
    schemes: tuple[Scheme, ...]
    spacing: tuple[float, float, float]
    padding: tuple[float, ...]
    crop: bool
    is_numbered: bool
    patch_size: tuple[int, int, int]
    batch_size: int
    num_cases: int
    foreground: str
    version: int = VERSION

    def record(self) -> dict[str, Any]:
        """Return the plan as JSON."""
        return {key: list(v) if isinstance(v, tuple) else v for key, v in asdict(self).items()}

    @property
    def defaults(self) -> dict[str, Any]:
        """Values of settings that the user left open."""
        return {"patch_size": self.patch_size, "batch_size": self.batch_size}

    @property
    def line(self) -> str:
        """The choices in one line."""
        schemes = (
            f"{name} normalized over the training cases" if scheme == "ct" else f"{name} per case"
            for name, scheme in zip(self.modalities, self.schemes, strict=True)
        )
        cropped = "; voxels of 0 around the body cropped" if self.crop else ""
        return (
            f"planned from {self.num_cases} cases: voxels of {_by(self.spacing)} mm (z, y, x), "
            f"patches of {_by(self.patch_size)} in batches of {self.batch_size}; "
            f"{', '.join(schemes)}{cropped}"
        )

    def spec(self) -> VolumeSpec:
        """Return the specification of the dataset."""
        return VolumeSpec(
            class_names=self.class_names,
            label_values=self.label_values,
            modalities=self.modalities,
            spacing=self.spacing,
            padding=self.padding[0] if len(set(self.padding)) == 1 else self.padding,
            crop=self.crop,
            case_of=None,
            find_cases=partial(
                find_images, modalities=self.modalities, is_numbered=self.is_numbered
            ),
            normalize=tuple(normalizer(scheme, is_masked=self.crop) for scheme in self.schemes),
            plan=self.record(),
        )


def parse_plan(record: Any) -> Plan:
    """Return a recorded plan.

    Args:
        record: Result of :meth:`Plan.record`, read from JSON.

    Raises:
        ValueError: If it is not a plan of this version.
    """
    if not isinstance(record, Mapping) or record.get("version") != VERSION:
        raise ValueError("it is not a plan of this version")
    values: dict[str, Any] = {
        key: tuple(v) if isinstance(v, list) else v for key, v in record.items()
    }
    try:
        plan = Plan(**values)
    except TypeError:  # of another version
        raise ValueError("its entries are not those of a plan") from None
    if not _is_valid(plan):
        raise ValueError("an entry of its plan is not valid")
    return plan


def _is_valid(plan: Plan) -> bool:
    """Return whether all entries have the right types and lengths."""
    texts = (plan.class_names, plan.modalities, plan.schemes, (plan.foreground,))
    wholes = (plan.label_values, plan.patch_size, (plan.batch_size, plan.num_cases))
    if not all(_are(str, values) for values in texts):
        return False
    if not all(_are(int, values) for values in wholes):
        return False
    if not all(_are((int, float), values) for values in (plan.spacing, plan.padding)):
        return False
    return (
        2 <= len(plan.class_names) == len(plan.label_values) <= MOST_LABELS
        and len(set(plan.label_values)) == len(plan.label_values)
        and all(0 <= value <= LARGEST_LABEL for value in plan.label_values)
        and 1 <= len(plan.modalities) == len(plan.schemes) == len(plan.padding)
        and set(plan.schemes) <= set(get_args(Scheme))
        and len(plan.spacing) == len(plan.patch_size) == 3
        and all(0 < edge < math.inf for edge in plan.spacing)
        and all(math.isfinite(value) for value in plan.padding)
        and min(*plan.patch_size, plan.batch_size) >= 1
        and isinstance(plan.crop, bool)
        and isinstance(plan.is_numbered, bool)
    )


def _are(kind: type | tuple[type, ...], values: Any) -> bool:
    """Return whether these are numbers or texts of a type; a bool is not a number."""
    return isinstance(values, tuple) and all(
        isinstance(value, kind) and not isinstance(value, bool) for value in values
    )


def _by(numbers: Sequence[int | float]) -> str:
    return " x ".join(f"{number:g}" for number in numbers)
