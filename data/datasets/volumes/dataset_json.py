"""Reader of nnU-Net's ``dataset.json``, which names the modalities and the labels.

The format is that of nnU-Net (https://github.com/MIC-DKFZ/nnUNet, documentation/dataset_format.md),
in its second version and, as in the Medical Segmentation Decathlon, its first.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from data.formats.nifti import LARGEST_LABEL
from data.labels import check_class_names
from data.volume_spec import ENDINGS
from lmf_jax.errors import UserError, printable
from lmf_jax.json_text import parse_json

FILE = "dataset.json"
"""Name of the file."""

MOST_LABELS = 256
"""Maximum number of labels: class ids are bytes."""

_LARGEST_FILE = 2**24
_MOST_MODALITIES = 10_000
"""Files of modalities are numbered with four digits."""


@dataclass(frozen=True)
class DatasetJson:
    """Declarations of ``dataset.json``.

    Attributes:
        class_names: Name of every class, by class id; the background is the first.
        label_values: Label in the files of every class, by class id, in ascending order.
        modalities: Name of every modality, by its number.
        num_cases: Number of training cases; None if it is not declared.
    """

    class_names: tuple[str, ...]
    label_values: tuple[int, ...]
    modalities: tuple[str, ...]
    num_cases: int | None


def read_dataset_json(path: Path) -> DatasetJson:
    """Read ``dataset.json``.

    Args:
        path: The file.

    Raises:
        UserError: If it cannot be read, is not JSON, lacks an entry, or declares something that is
            not supported, such as regions; the message names the entry.
    """
    content = _read(path)
    if not isinstance(content, Mapping):
        raise UserError(
            f"{path} holds a {type(content).__name__}; expected an object with channel_names and "
            "labels."
        )
    names, values = _labels(path, content)
    ending = content.get("file_ending", ENDINGS[0])
    if ending not in ENDINGS:
        raise UserError(
            f"{path} has the file_ending {_shown(ending)}; expected {' or '.join(ENDINGS)}: "
            "convert the files to NIfTI."
        )
    if content.get("dataset"):
        raise UserError(
            f"{path} lists its files in dataset, which is not read; put images into imagesTr and "
            "label maps into labelsTr, and remove the entry."
        )
    num_cases = content.get("numTraining")
    if num_cases is not None and not (_is_whole(num_cases) and num_cases >= 0):
        raise UserError(
            f"{path} has numTraining {_shown(num_cases)}; expected the number of training cases."
        )
    return DatasetJson(names, values, _modalities(path, content), num_cases)


def _read(path: Path) -> Any:
    try:
        if path.stat().st_size > _LARGEST_FILE:
            raise UserError(
                f"{path} has {path.stat().st_size} bytes; expected at most {_LARGEST_FILE}."
            )
        return parse_json(path.read_bytes())
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}).") from error
    except ValueError as error:
        reason = str(error).splitlines()[0][:120]
        raise UserError(f"{path} is not JSON ({reason}); repair it.") from error


def _labels(path: Path, content: Mapping[str, Any]) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Return the names and values of the labels in ascending order of the values."""
    labels = content.get("labels")
    if not isinstance(labels, Mapping) or not 2 <= len(labels) <= MOST_LABELS:
        raise UserError(
            f"{path} has labels {_shown(labels)}; expected 2 to {MOST_LABELS} such as "
            '{"background": 0, "tumor": 1}.'
        )
    by_value = all(isinstance(name, str) for name in labels.values())
    items = _by_name(labels) if by_value else list(labels.items())
    pairs = sorted((_label_value(path, name, value), name) for name, value in items)
    values, names = tuple(value for value, _ in pairs), tuple(name for _, name in pairs)
    for (value, name), (other, second) in pairwise(pairs):
        if value == other:
            raise UserError(
                f"{path} gives {name} and {second} the label {value}; expected one for each."
            )
    if values[0] != 0:
        raise UserError(
            f"{path} has no label 0 (the smallest is {values[0]}, {names[0]}); expected the "
            "background there."
        )
    check_class_names(path, names)
    return names, values


def _by_name(labels: Mapping[str, str]) -> list[tuple[str, Any]]:
    """Return the name and value of labels of the first version, which are names by value."""
    return [
        (name, int(value) if value.isascii() and value.isdecimal() else value)
        for value, name in labels.items()
    ]


def _label_value(path: Path, name: str, value: Any) -> int:
    """Return the value of a label; raise ``UserError`` for what is not supported."""
    if name == "ignore":
        raise UserError(
            f"{path} has the label ignore, which is not supported; give its voxels a class, and "
            "remove the label."
        )
    if isinstance(value, list) and len(value) == 1:
        (value,) = value
    if isinstance(value, list):
        raise UserError(
            f"{path} has the region {name} ({_shown(value)}), and regions are not supported; give "
            "each label one number."
        )
    if not _is_whole(value) or not 0 <= value <= LARGEST_LABEL:
        raise UserError(
            f"{path} gives {name} the label {_shown(value)}; expected a whole number from 0 to "
            f"{LARGEST_LABEL}."
        )
    return int(value)


def _modalities(path: Path, content: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the names of the modalities by number."""
    key = "channel_names" if "channel_names" in content else "modality"
    names = content.get(key)
    if not isinstance(names, Mapping) or not 1 <= len(names) <= _MOST_MODALITIES:
        raise UserError(
            f"{path} has {key} {_shown(names)}; expected the modalities by number, such as "
            '{"0": "CT"}.'
        )
    expected = [str(number) for number in range(len(names))]
    found = [names.get(number) for number in expected]
    if not all(isinstance(name, str) and name.strip() for name in found):
        raise UserError(
            f"{path} has {key} {_shown(names)}; expected a name for each of "
            f"{', '.join(expected[:3])}{', ...' if len(expected) > 3 else ''}."
        )
    check_class_names(path, [f"{number} {str(name).strip()}" for number, name in enumerate(found)])
    return tuple(str(name).strip() for name in found)


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _shown(value: Any) -> str:
    """Return a value for an error, shortened to one line."""
    text = "nothing" if value is None else printable(str(value))
    return text if len(text) <= 80 else f"{text[:77]}..."
