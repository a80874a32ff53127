"""Search for ImageNet weights to start from, for runs that name neither weights nor none."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from lmf_jax.errors import UserError
from lmf_jax.models.pretrained import keras_model
from lmf_jax.models.registry import registered_models
from lmf_jax.models.weight_files import WEIGHTS_DIR, fetch_imagenet_weights, read_tensors

KNOWN_FILES = {
    "resnet50_keras_imagenet.npz": ("resnet50_v1",),
    "resnet50_weights_tf_dim_ordering_tf_kernels.h5": ("resnet50_v1", "resnet50_keras"),
    "resnet50_weights_tf_dim_ordering_tf_kernels_notop.h5": ("resnet50_v1", "resnet50_keras"),
}
"""Files of ImageNet weights besides torchvision's, and the models that each may fit.

Keras published its first ResNet-50 and the one since Keras 2.3 under the same names.
"""

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

    Raises:
        UserError: If a known file that may fit two models cannot be read.
    """
    path = Path(folder).expanduser()
    for name, owners in KNOWN_FILES.items():
        if model in (None, *owners) and (path / name).is_file():
            owner = model_of_file(path / name)
            if owner is not None and model in (None, owner):
                return StartingWeights(str(path / name), owner, _reason(owner, path / name))
    downloaded = next(_torchvision_files(path, model), None)
    owner = downloaded or model or DOWNLOADED_MODEL
    try:
        file = fetch_imagenet_weights(owner, folder=path)
    except UserError as error:
        note = f"no ImageNet weights, so training starts from random ones: {error}"
        return StartingWeights("none", None, note)
    return StartingWeights("imagenet", owner, _reason(owner, file))


def model_of_file(path: Path) -> str | None:
    """Return the model that a known file fits, by its name or, if that leaves two, by its layers.

    Returns:
        The model; None if the name is not known, or the layers are those of another model.

    Raises:
        UserError: If the layers are needed and cannot be read.
    """
    owners = KNOWN_FILES.get(path.name, ())
    if len(owners) < 2:
        return next(iter(owners), None)
    owner = keras_model(read_tensors(path))
    return owner if owner in owners else None


def _torchvision_files(folder: Path, model: str | None) -> Iterator[str]:
    """Yield the models whose torchvision weights are in the folder, the default model first."""
    specs = [spec for spec in registered_models() if spec.torchvision]
    for spec in sorted(specs, key=lambda spec: spec.name != DOWNLOADED_MODEL):
        assert spec.torchvision is not None
        if model in (None, spec.name) and (folder / spec.torchvision.imagenet_file).is_file():
            yield spec.name


def _reason(model: str, path: Path) -> str:
    return f"model {model}, because the ImageNet weights {path} are its"
