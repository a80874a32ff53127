"""Arguments of several commands."""

from typing import Annotated

import tyro

from lmf_jax.inference.views import Tta

RunDir = Annotated[
    str, tyro.conf.Positional, tyro.conf.arg(metavar="RUN", help="The folder of a run.")
]
Ensemble = Annotated[
    tuple[str, ...],
    tyro.conf.arg(
        metavar="RUN",
        help="Further runs: the calibrated probabilities of all runs are averaged.",
    ),
]
TtaMode = Annotated[
    Tta,
    tyro.conf.arg(
        help="Test-time augmentation: average the probabilities over views of each image. flip: "
        "the image and its mirror image. dihedral: the eight symmetries of a square."
    ),
]
