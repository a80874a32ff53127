"""Conversion of pretrained torchvision, timm and Keras weights to Flax variables.

timm's ResNet-50 and DenseNet-121 have torchvision's names and are converted as torchvision's. Its
EfficientNetV2-S is another model, because it pads as TensorFlow's SAME does.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from lmf_jax.errors import UserError
from lmf_jax.models.registry import (
    KerasWeights,
    Renames,
    create_model,
    get_model,
    registered_models,
)
from lmf_jax.models.weight_files import Tensors, read_tensors, weights_path

Variables = dict[str, dict[str, Any]]
VariablePath = tuple[str, ...]
"""The path of a variable in the tree, such as ``("params", "head", "kernel")``."""


@lru_cache(maxsize=1)
def load_pretrained(source: str, model: str) -> Variables:
    """Load pretrained weights for a model.

    Args:
        source: ``"imagenet"`` for torchvision's weights, which are downloaded once; or a file, or
            its https address, with the names of torchvision, timm or Keras, see
            :func:`lmf_jax.models.weight_files.read_tensors`.
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
    try:
        return _conversion(model, tensors)(model, tensors)
    except ValueError as error:
        raise UserError(f"The weights in {path} cannot be used: {error}") from error


def _conversion(model: str, tensors: Tensors) -> Callable[[str, Tensors], Variables]:
    """Return the conversion for the names of the tensors and the model."""
    if any("/" in name for name in tensors):
        return from_keras
    return from_timm if get_model(model).timm else from_torchvision


_LEAVES = {
    "kernel": "weight",
    "scale": "weight",
    "bias": "bias",
    "mean": "running_mean",
    "var": "running_var",
}

_TIMM_TENSOR = "blocks.0.0.conv.weight"
"""A tensor that timm's EfficientNetV2-S has, and no model of torchvision."""


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
    if _TIMM_TENSOR in state_dict:
        others = ", ".join(spec.name for spec in registered_models() if spec.timm)
        raise ValueError(f"they are timm's, which pads otherwise; give --model {others}.")
    return _from_state_dict(
        name, f"torchvision's {name}", published[name].renames, state_dict, num_classes
    )


def from_timm(
    name: str, state_dict: Mapping[str, Any], *, num_classes: int | None = None
) -> Variables:
    """Convert the state dict of a timm model that torchvision does not have to Flax variables.

    Args:
        name: ``"tf_efficientnetv2_s"``, which is timm's name too.
        state_dict: As in :func:`from_torchvision`, by timm's names.
        num_classes: As in :func:`from_torchvision`.

    Returns:
        As :func:`from_torchvision` does.

    Raises:
        ValueError: If the model has no names of timm, or tensors are missing, unknown or of the
            wrong shape.
    """
    published = {spec.name: spec.timm for spec in registered_models() if spec.timm}
    if name not in published:
        raise ValueError(
            f"There are no timm weights for {name!r}; expected one of {', '.join(published)}."
        )
    return _from_state_dict(name, f"timm's {name}", published[name], state_dict, num_classes)


def _from_state_dict(
    name: str,
    owner: str,
    renames: Renames,
    state_dict: Mapping[str, Any],
    num_classes: int | None,
) -> Variables:
    """Convert the state dict of PyTorch's model that is called ``owner`` in messages."""
    tensors = {
        _current_name(torch_name): np.asarray(tensor)
        for torch_name, tensor in state_dict.items()
        if not torch_name.endswith("num_batches_tracked")
    }
    head_weight = tensors.get(_torch_name(renames, ("params", "head", "kernel")), np.ones(1))
    head_weight = np.atleast_1d(head_weight)
    shapes = _variable_shapes(name, num_classes=len(head_weight))
    names = {path: _torch_name(renames, path) for path in shapes}
    in_our_layout = {key: _to_flax_layout(tensor) for key, tensor in tensors.items()}
    variables = _collect(owner, in_our_layout, names, shapes)
    if num_classes not in (None, len(head_weight)):
        variables["params"].pop("head", None)
    return variables


def from_keras(name: str, tensors: Tensors) -> Variables:
    """Convert the weights of a Keras model to Flax variables.

    Keras' convolutions have a bias, and ours have none. Subtracting the bias from the running mean
    of the batch norm that follows gives the same outputs.

    Args:
        name: ``"resnet50_v1"`` for the weights of Keras until 2.2, or ``"resnet50_keras"`` since
            2.3, where the layers have other names and the batch norms another epsilon.
        tensors: The weights as ``<layer>/<weight>``, such as ``"res2a_branch2a/kernel"``.

    Returns:
        ``{"params": ..., "batch_stats": ...}`` as NumPy copies, with the head if there is one.

    Raises:
        ValueError: If the weights are of another model, or tensors are missing, unknown or of the
            wrong shape.
    """
    owner = keras_model(tensors)
    if name != owner:
        models = ", ".join(spec.name for spec in registered_models() if spec.keras)
        raise ValueError(
            f"they have Keras' names, but are of none of its models here ({models})."
            if owner is None
            else f"they are of {_keras_weights()[owner].owner}; give --model {owner}, not {name}."
        )
    weights = _keras_weights()[name]
    # Keras called the head of the later ResNet-50 "probs" when the published files were written.
    tensors = {re.sub("^probs/", "predictions/", key): tensor for key, tensor in tensors.items()}
    head_bias = tensors.get(_keras_name(weights, ("params", "head", "bias")), 1)
    shapes = _variable_shapes(name, num_classes=np.size(head_bias))
    names = {path: _keras_name(weights, path) for path in shapes}
    return _collect(weights.owner, _without_biases(tensors, weights, names), names, shapes)


def keras_model(names: Iterable[str]) -> str | None:
    """Return the model whose layers the names ``<layer>/<weight>`` have; None if there is none."""
    layers = {name.partition("/")[0] for name in names}
    models = (name for name, weights in _keras_weights().items() if weights.first_layer in layers)
    return next(models, None)


def _keras_weights() -> dict[str, KerasWeights]:
    return {spec.name: spec.keras for spec in registered_models() if spec.keras}


_KERAS_LEAVES = {"scale": "gamma", "mean": "moving_mean", "var": "moving_variance"}


def _keras_name(weights: KerasWeights, path: VariablePath) -> str:
    """Return Keras' name of a variable; ``layer1_0/conv2/conv`` is ``res2a_branch2b``."""
    _, *modules, leaf = path
    if modules[-1] == "norm" and leaf == "bias":
        leaf = "beta"
    return f"{_renamed(weights.renames, modules)}/{_KERAS_LEAVES.get(leaf, leaf)}"


def _without_biases(
    tensors: Tensors, weights: KerasWeights, names: Mapping[VariablePath, str]
) -> Tensors:
    """Return the tensors with the bias of each convolution moved into the mean that follows."""
    tensors = dict(tensors)
    for path, mean in names.items():
        bias = _keras_name(weights, (*path[:-2], "conv", "bias"))
        if path[-2:] != ("norm", "mean") or mean not in tensors or bias not in tensors:
            continue
        if tensors[mean].shape != tensors[bias].shape:
            raise ValueError(f"{bias} and {mean} differ in their shapes.")
        tensors[mean] = tensors[mean] - tensors.pop(bias)
    return tensors


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


def _torch_name(renames: Renames, path: VariablePath) -> str:
    """Return the name of a variable in a state dict."""
    _, *modules, leaf = path
    return f"{_renamed(renames, modules).replace('/', '.')}.{_LEAVES[leaf]}"


def _renamed(renames: Renames, modules: Iterable[str]) -> str:
    """Return the path of a module after all replacements."""
    module = "/".join(modules)
    for pattern, replacement in renames:
        module = re.sub(pattern, replacement, module)
    return module


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
