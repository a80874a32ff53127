"""The command line of ``predict``, for all tasks."""

from dataclasses import dataclass
from typing import Annotated

import tyro

from lmf_jax.cli.arguments import Ensemble, RunDir, TtaMode


@dataclass(frozen=True)
class Predict:
    """Predict with the best epoch of a run: a line of CSV per image, or a mask.

    A run of volumes takes the folder of a case with the files of its dataset, such as
    imaging.nii.gz, or a folder of such folders; of volumes of your own, the folder of the images,
    or one DICOM series or enhanced file. No label map is needed.
    """

    run: RunDir
    images: Annotated[
        str,
        tyro.conf.Positional,
        tyro.conf.arg(
            metavar="IMAGE|FOLDER|LIST",
            help="The images to predict; a list is a CSV file with the column path and metadata.",
        ),
    ]
    output: str
    """Classification: the CSV file, with path, predicted class, its probability, and the
    probability of each class. Multilabel: the CSV file, with path, predicted labels joined by |,
    and the probability of each label. Segmentation: the folder for the masks, PNGs of class ids in
    the size of their images, or CASE.nii.gz on the grid of the files of the case, with the labels
    of the dataset."""
    prevalence: str | None = None
    """CLASS=0.02,...: how frequent classes are where the probabilities will be used, if not as in
    the validation part; the other classes share the rest. Classification only."""
    ensemble: Ensemble = ()
    tta: TtaMode = "none"
    overwrite: bool = False
    """Replace existing files; the images that are read are never replaced."""
    sets: bool = False
    """Classification: add the column set, with the classes that cannot be excluded at the level
    that the command sets was given, joined by |."""
    operating_point: str | None = None
    """Classification and multilabel: add a column with the decision of this operating point,
    positive or negative; the command operate makes it."""

    @property
    def run_dirs(self) -> tuple[str, ...]:
        """The folders of all runs."""
        return (self.run, *self.ensemble)
