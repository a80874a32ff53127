"""Registry of datasets: one ``DatasetSpec`` in each folder of ``data/datasets``.

To add a dataset, add a folder with a ``DATASET`` in its ``__init__.py``; command lines, help texts,
checks and defaults follow from it. Importing a specification opens no file and loads neither
TensorFlow Datasets nor SciPy nor nibabel.
"""

import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType, ModuleType
from typing import Any, Literal

PACKAGE = "data.datasets"
"""Package whose sub-packages are the datasets."""

Kind = Literal["embedded", "download", "volumes", "own", "own-volumes"]
"""Origin of a dataset: part of an installed package, a download of images, a download of volumes,
images of the user, or volumes of the user."""

KINDS: tuple[Kind, ...] = ("embedded", "download", "volumes", "own", "own-volumes")
"""All kinds, in the order in which help texts list them."""


@dataclass(frozen=True)
class PublishedCounts:
    """Published number of images by part.

    Attributes:
        source: Who published the numbers, for messages.
        by_part: The numbers, by ``train``, ``validation`` and ``test``.
    """

    source: str
    by_part: Mapping[str, int]


@dataclass(frozen=True, kw_only=True)
class DatasetSpec:
    """Specification of a dataset.

    Attributes:
        name: Name on the command line, and of the folder in ``data/datasets``.
        summary: Contents in a few words, for help texts.
        task: "classification", "segmentation" if pixels or voxels have classes, or "multilabel" if
            an image may have several labels.
        kind: Origin of the files.
        paths: For files of the user, what each path in the name leads to.
        optional_paths: How many of the last paths may be left out.
        usage: Form of the name, such as ``folder:PATH``; empty for the name alone.
        defaults: Values of settings that the user left open. A dataset with an ``imbalance_ratio``
            is balanced and is thinned to a long tail.
        settings_by_size: Whether such settings follow from the size of the training part instead,
            see :data:`lmf_jax.config.recipes.RECIPES`.
        published: Published number of images, or a function from the path in the name to it; None
            if unknown.
    """

    name: str
    summary: str
    task: Literal["classification", "segmentation", "multilabel"] = "classification"
    kind: Kind
    paths: tuple[Literal["file", "folder"], ...] = ()
    optional_paths: int = 0
    usage: str = ""
    defaults: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    settings_by_size: bool = False
    published: PublishedCounts | Callable[[Path], PublishedCounts | None] | None = None

    @property
    def form(self) -> str:
        """Form of the name on the command line."""
        return self.usage or self.name

    @property
    def has_volumes(self) -> bool:
        """Whether it has volumes instead of images."""
        return self.kind in ("volumes", "own-volumes")

    def labels_module(self) -> ModuleType:
        """Return the module with ``read_labels``: ``labels.py`` of the folder, or its package."""
        package = f"{PACKAGE}.{self.name}"
        module = f"{package}.labels"
        return import_module(module if find_spec(module) else package)

    def published_counts(self, path: Path | None) -> PublishedCounts | None:
        """Return the published number of images by part, or None if unknown.

        Args:
            path: Path in the name of the dataset, if it has one.
        """
        if callable(self.published):
            return None if path is None else self.published(path)
        return self.published


@cache
def registered_datasets() -> Mapping[str, DatasetSpec]:
    """Return the specifications of all datasets by name, ordered by kind and name.

    Raises:
        ValueError: If a folder declares a dataset of another name.
    """
    specs: list[DatasetSpec] = []
    for module in pkgutil.iter_modules(import_module(PACKAGE).__path__):
        spec: DatasetSpec = import_module(f"{PACKAGE}.{module.name}").DATASET
        if spec.name != module.name:
            raise ValueError(
                f"{PACKAGE}.{module.name} declares the dataset {spec.name!r}; expected the name "
                "of its folder."
            )
        specs.append(spec)
    specs.sort(key=lambda spec: (KINDS.index(spec.kind), spec.name))
    return {spec.name: spec for spec in specs}


def datasets_of_kind(*kinds: Kind) -> tuple[str, ...]:
    """Return the names of all datasets of these kinds.

    Args:
        *kinds: Kinds of dataset.
    """
    return tuple(name for name, spec in registered_datasets().items() if spec.kind in kinds)


def find_dataset(name: str) -> DatasetSpec | None:
    """Return the specification of a dataset, or None if there is no such dataset.

    Args:
        name: Name as given on the command line; a path after a colon is ignored.
    """
    return registered_datasets().get(name.partition(":")[0])


def has_volumes(name: str) -> bool:
    """Return whether a dataset has volumes instead of images; False if there is none.

    Args:
        name: Name as given on the command line.
    """
    spec = find_dataset(name)
    return spec is not None and spec.has_volumes


def default_settings(name: str) -> Mapping[str, Any]:
    """Return a dataset's values of settings that the user left open.

    Args:
        name: Name as given on the command line.
    """
    spec = find_dataset(name)
    return {} if spec is None else spec.defaults
