"""Conversion of pretrained torchvision, timm and Keras weights to Flax variables.

timm's ResNet-50 and DenseNet-121 have torchvision's names. Its EfficientNetV2-S pads maps unevenly,
as TensorFlow's SAME does, or has another epsilon in batch norm. The same weights would give other
logits here, so they are refused.
"""

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from lmf_jax.errors import UserError
from lmf_jax.models.registry import Renames, create_model, registered_models
from lmf_jax.models.weight_files import Tensors, read_tensors, weights_path

Variables = dict[str, dict[str, Any]]
VariablePath = tuple[str, ...]
"""The path of a variable in the tree, such as ``("params", "head", "kernel")``."""


@lru_cache(maxsize=1)
def load_pretrained(source: str, model: str) -> Variables:
    """Load pretrained weights for a model.

    Args:
        source: ``"imagenet"`` for torchvision's weights, which are downloaded once; or a file with
            torchvision's or Keras' names, see :func:`lmf_jax.models.weight_files.read_tensors`.
        model: Name of the model.

    Returns:
        ``{"params": ..., "batch_stats": ...}`` as NumPy arrays, with the linear head if the weights
        include one.

    Raises:
        UserError: If the weights cannot be fetched or read, or belong to another architecture. The
            message lists the tensors that are missing, unknown or of another shape.
    """
    path = weights_path(source, model)
    tensors = read_tensors(path)
    is_keras = any("/" in name for name in tensors)
    try:
        return from_keras(model, tensors) if is_keras else from_torchvision(model, tensors)
    except ValueError as error:
        raise UserError(f"The weights in {path} cannot be used: {error}") from error


_LEAVES = {
    "kernel": "weight",
    "scale": "weight",
    "bias": "bias",
    "mean": "running_mean",
    "var": "running_var",
}


def from_torchvision(
    name: str, state_dict: Mapping[str, Any], *, num_classes: int | None = None
) -> Variables:
    """Convert the state dict of a torchvision model to Flax variables.

    Args:
        name: Name of the model for :func:`lmf_jax.models.create_model`.
        state_dict: The tensors by torchvision's names, as NumPy arrays or anything that
            ``numpy.asarray`` accepts. Counters (``num_batches_tracked``) are ignored.
        num_classes: Number of classes of the model that the variables are for. A head with another
            number is left out: ``"params"`` then has no ``"head"``, and the caller keeps the one
            from ``model.init``. None: the head is always kept.

    Returns:
        ``{"params": ..., "batch_stats": ...}`` for a model with a linear head, as NumPy copies in
        the dtypes of ``state_dict``.

    Raises:
        ValueError: If torchvision has no model of that name, or tensors are missing, unknown or of
            the wrong shape.
    """
    published = {spec.name: spec.torchvision for spec in registered_models() if spec.torchvision}
    if name not in published:
        raise ValueError(
            f"There are no torchvision weights for {name!r}; expected one of "
            f"{', '.join(published)}."
        )
    renames = published[name].renames
    if "blocks.0.0.conv.weight" in state_dict:
        raise ValueError(
            "they are timm's, whose tf_efficientnetv2_s pads unevenly, as TensorFlow's SAME does, "
            "and whose others have another epsilon in batch norm, so the same weights would "
            "give other logits here; use torchvision's efficientnet_v2_s."
        )
    tensors = {
        _current_name(torch_name): np.asarray(tensor)
        for torch_name, tensor in state_dict.items()
        if not torch_name.endswith("num_batches_tracked")
    }
    head_weight = tensors.get(_torchvision_name(renames, ("params", "head", "kernel")), np.ones(1))
    head_weight = np.atleast_1d(head_weight)
    shapes = _variable_shapes(name, num_classes=len(head_weight))
    names = {path: _torchvision_name(renames, path) for path in shapes}
    in_our_layout = {key: _to_flax_layout(tensor) for key, tensor in tensors.items()}
    variables = _collect(f"torchvision's {name}", in_our_layout, names, shapes)
    if num_classes not in (None, len(head_weight)):
        variables["params"].pop("head", None)
    return variables


def from_keras(name: str, tensors: Tensors) -> Variables:
    """Convert the weights of Keras' first ResNet-50 to Flax variables.

    Keras' convolutions have a bias, and ours have none. Subtracting the bias from the running mean
    of the batch norm that follows gives the same outputs.

    Args:
        name: ``"resnet50_v1"``.
        tensors: The weights as ``<layer>/<weight>``, such as ``"res2a_branch2a/kernel"``.

    Returns:
        ``{"params": ..., "batch_stats": ...}`` as NumPy copies, with the head if there is one.

    Raises:
        ValueError: If the name is another, or tensors are missing, unknown or of the wrong shape.
    """
    if name != "resnet50_v1":
        raise ValueError(
            f"they are Keras', of the first ResNet-50; give --model resnet50_v1, not {name}."
        )
    folded = {key: t for key, t in tensors.items() if not _is_folded(key)}
    for key in filter(_is_folded, tensors):
        mean = f"{_keras_norm(key.removesuffix('/bias'))}/moving_mean"
        if mean in folded:
            if folded[mean].shape != tensors[key].shape:
                raise ValueError(f"{key} and {mean} differ in their shapes.")
            folded[mean] = folded[mean] - tensors[key]
    shapes = _variable_shapes(name, num_classes=np.size(tensors.get("fc1000/bias", 1)))
    names = {path: _keras_name(path) for path in shapes}
    return _collect("Keras' first ResNet-50", folded, names, shapes)


_KERAS_LEAVES = {
    "kernel": "kernel",
    "scale": "gamma",
    "bias": "beta",
    "mean": "moving_mean",
    "var": "moving_variance",
}


def _keras_name(path: VariablePath) -> str:
    """Return Keras' name of a variable; ``layer1_0/conv2/conv`` is ``res2a_branch2b``."""
    _, *modules, leaf = path
    if modules == ["head"]:
        return f"fc1000/{leaf}"
    *block, kind = modules[1:]
    if len(block) == 1:
        layer = "conv1"
    else:
        stage, number = re.fullmatch(r"layer(\d)_(\d)", block[0]).groups()  # type: ignore[union-attr]
        branch = "1" if block[1] == "downsample" else "2" + "abc"[int(block[1][-1]) - 1]
        layer = f"res{int(stage) + 1}{'abcdef'[int(number)]}_branch{branch}"
    return f"{layer if kind == 'conv' else _keras_norm(layer)}/{_KERAS_LEAVES[leaf]}"


def _is_folded(key: str) -> bool:
    """Return whether a tensor is the bias of a convolution."""
    return key.endswith("/bias") and not key.startswith("fc")


def _keras_norm(convolution: str) -> str:
    """Return Keras' name of the batch norm after a convolution."""
    return "bn_conv1" if convolution == "conv1" else "bn" + convolution.removeprefix("res")


def _collect(
    owner: str,
    tensors: Mapping[str, np.ndarray],
    names: Mapping[VariablePath, str],
    shapes: Mapping[VariablePath, tuple[int, ...]],
) -> Variables:
    """Return the tensors in our tree, or raise for missing, unknown and misshapen ones.

    The whole head may be missing, because files of backbones are common and heads are mostly
    replaced. The tensors are copied, because ``numpy.asarray`` and ``jax.numpy.asarray`` may share
    memory with a model that is still in training.
    """
    head = {key for path, key in names.items() if path[1] == "head"}
    if not head & set(tensors):
        names = {path: key for path, key in names.items() if key not in head}
    expected, given = set(names.values()), set(tensors)
    complaints = [
        f"{kind} tensors: {_some(sorted(found))}"
        for kind, found in (("missing", expected - given), ("unknown", given - expected))
        if found
    ]
    complaints = complaints or [
        f"wrong shape of tensors: {_some(wrong)}"
        for wrong in [[n for path, n in names.items() if tensors[n].shape != shapes[path]]]
        if wrong
    ]
    if complaints:
        raise ValueError(f"these are not the weights of {owner}; {'; '.join(complaints)}.")
    return unflatten_dict({path: np.array(tensors[key]) for path, key in names.items()})


def _current_name(torch_name: str) -> str:
    """Return the current name of a tensor: torchvision's DenseNet file has "norm.1" for "norm1"."""
    return re.sub(r"(denselayer\d+\.(?:norm|conv))\.([12])\.", r"\1\2.", torch_name)


def _torchvision_name(renames: Renames, path: VariablePath) -> str:
    """Return torchvision's name of a variable."""
    _, *modules, leaf = path
    module = "/".join(modules)
    for pattern, replacement in renames:
        module = re.sub(pattern, replacement, module)
    return f"{module.replace('/', '.')}.{_LEAVES[leaf]}"


def _variable_shapes(name: str, num_classes: int) -> dict[VariablePath, tuple[int, ...]]:
    model = create_model(name, num_classes=num_classes)
    images = jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.float32)
    variables = jax.eval_shape(model.init, jax.random.key(0), images)
    return {path: leaf.shape for path, leaf in flatten_dict(variables).items()}


def _some(names: list[str]) -> str:
    shown = ", ".join(names[:3])
    return shown if len(names) <= 3 else f"{shown} and {len(names) - 3} more"


def _to_flax_layout(tensor: np.ndarray) -> np.ndarray:
    """Transpose a dense kernel to ``[in, out]``, a convolution to ``[rows, columns, in, out]``."""
    if tensor.ndim == 4:
        return tensor.transpose(2, 3, 1, 0)
    return tensor.T
