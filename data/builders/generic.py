"""Builder class of each dataset: its own, or a generic one for image files."""

import types
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from data.builders.images import ImageFilesBuilder
from data.builders.label_vectors import LabelVectorsBuilder
from data.builders.masks import MaskFilesBuilder
from data.registry import PACKAGE, DatasetSpec

BUILDERS: dict[str, type[ImageFilesBuilder]] = {
    "classification": ImageFilesBuilder,
    "segmentation": MaskFilesBuilder,
    "multilabel": LabelVectorsBuilder,
}
"""Builder of image files, by task of the dataset."""


def builder_class(spec: DatasetSpec) -> type:
    """Return the TFDS builder class of a dataset.

    This is the ``Builder`` in ``<name>_dataset_builder.py`` of its folder if there is one, else a
    generic builder of image files with the functions of the dataset, see :data:`BUILDERS`.

    Args:
        spec: Specification of the dataset.
    """
    module = f"{PACKAGE}.{spec.name}.{spec.name}_dataset_builder"
    if find_spec(module):
        builder: type = import_module(module).Builder
        return builder
    base = BUILDERS[spec.task]
    files = spec.labels_module()
    attributes: dict[str, Any] = {
        "name": spec.name,  # of the files that TFDS writes
        "pkg_dir_path": Path(str(files.__file__)).parent,  # README.md, CITATIONS.bib
        "files": files,
        "__module__": f"{PACKAGE}.{spec.name}",
    }
    return types.new_class(
        "Builder",
        (base,),
        {"skip_registration": True},
        lambda namespace: namespace.update(attributes),
    )
