"""The common flags of the tables and the sweep."""

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from benchmarks.paper import printed
from benchmarks.paper.recipe import RELEASED_RECIPE
from benchmarks.paper.runs import Recipe
from lmf_jax.config import DEFAULT_DATA_DIR

ModelName = Literal[printed.Model, "resnet50_v1"]

PRINTED_MODELS = {"resnet50_v1": "resnet50"}
"""Models that are compared with the printed figures of another model."""


@dataclass(frozen=True)
class RecipeOptions:
    """The common settings of all runs."""

    dataset: printed.Dataset = "ham10000"
    """The prepared dataset."""
    model: ModelName = "resnet50"
    """The architecture: Table 2 is efficientnet_v2_s, 3 resnet50 and 4 densenet121."""
    released_recipe: bool = True
    """Train as the authors' code does: images in [0, 1], Adam with coupled L2, no augmentation.
    Otherwise with the defaults of train.py: AdamW, and the model's own normalization."""
    pretrained: str = "imagenet"
    """The initial weights, as --pretrained of train.py: imagenet, a file, or none."""
    epochs: int | None = None
    """Epochs of a run (paper: 100)."""
    image_size: int | None = None
    """Side of the images in pixels (paper: 224)."""
    train_flags: str = ""
    """Further flags of train.py, after an equals sign: --train-flags='--remat --mixup 0.2'."""
    data_dir: str = DEFAULT_DATA_DIR
    """The folder of prepared datasets."""
    runs_dir: str = "runs/paper"
    """The folder of the runs: <dataset>/<model>/<settings>/<loss>/seed-<n>."""

    @property
    def recipe(self) -> Recipe:
        """The recipe of the runs."""
        settings = list(RELEASED_RECIPE) if self.released_recipe else []
        if self.pretrained != "none":
            settings += ["--pretrained", self.pretrained]
        for flag, value in (("--image-size", self.image_size), ("--epochs", self.epochs)):
            settings += [] if value is None else [flag, str(value)]
        return Recipe(
            dataset=self.dataset,
            model=self.model,
            settings=(*settings, *shlex.split(self.train_flags)),
            runs_dir=Path(self.runs_dir).expanduser(),
            data_dir=self.data_dir,
        )

    @property
    def printed_model(self) -> str:
        """The model whose printed figures this one is compared with."""
        return PRINTED_MODELS.get(self.model, self.model)
