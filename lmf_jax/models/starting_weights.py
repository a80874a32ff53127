"""Search for ImageNet weights to start from, for runs that name neither weights nor none."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from lmf_jax.errors import UserError
from lmf_jax.models.registry import registered_models
from lmf_jax.models.weight_files import WEIGHTS_DIR, fetch_imagenet_weights

KNOWN_FILES = {
    "resnet50_keras_imagenet.npz": "resnet50_v1",
    "resnet50_weights_tf_dim_ordering_tf_kernels.h5": "resnet50_v1",
    "resnet50_weights_tf_dim_ordering_tf_kernels_notop.h5": "resnet50_v1",
}
"""Files of ImageNet weights besides torchvision's, and the model that each fits."""

DOWNLOADED_MODEL = "resnet50"
"""The model whose weights are downloaded if none is asked for and no file is there."""


@dataclass(frozen=True)
class StartingWeights:
    """Initial weights, as settings.

    Attributes:
        pretrained: The value of ``--pretrained``.
        model: The value of ``--model`` that the weights fit; None if there are no weights.
        note: The reason, in one line.
    """

    pretrained: str
    model: str | None
    note: str


def find_starting_weights(
    model: str | None = None, folder: str | Path = WEIGHTS_DIR
) -> StartingWeights:
    """Find ImageNet weights: a known file in the weights folder, or else a download.

    Args:
        model: The model to find weights for; None takes the model of the weights that are there.
        folder: The weights folder, into which torchvision's weights are downloaded.

    Returns:
        The weights. ``pretrained`` is ``"none"`` if there are none, and the note then says which
        file to fetch and where to put it.
    """
    path = Path(folder).expanduser()
    for name, owner in KNOWN_FILES.items():
        if model in (None, owner) and (path / name).is_file():
            return StartingWeights(str(path / name), owner, _reason(owner, path / name))
    downloaded = next(_torchvision_files(path, model), None)
    owner = downloaded or model or DOWNLOADED_MODEL
    try:
        file = fetch_imagenet_weights(owner, folder=path)
    except UserError as error:
        note = f"no ImageNet weights, so training starts from random ones: {error}"
        return StartingWeights("none", None, note)
    return StartingWeights("imagenet", owner, _reason(owner, file))


def _torchvision_files(folder: Path, model: str | None) -> Iterator[str]:
    """Yield the models whose torchvision weights are in the folder, the default model first."""
    specs = [spec for spec in registered_models() if spec.torchvision]
    for spec in sorted(specs, key=lambda spec: spec.name != DOWNLOADED_MODEL):
        assert spec.torchvision is not None
        if model in (None, spec.name) and (folder / spec.torchvision.imagenet_file).is_file():
            yield spec.name


def _reason(model: str, path: Path) -> str:
    return f"model {model}, because the ImageNet weights {path} are its"
