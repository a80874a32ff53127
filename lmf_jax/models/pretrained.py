"""Weights of torchvision's models as Flax variables."""

import re
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from lmf_jax.models.registry import create_model

Path = tuple[str, ...]
"""Where a variable lies in the tree, such as `("params", "head", "kernel")`."""

# How torchvision names the modules of our trees: regular expressions, applied one after the other
# to paths such as "backbone/layer1_0/conv1/norm".
_RENAMES: dict[str, list[tuple[str, str]]] = {
    "resnet50": [
        ("^head$", "fc"),
        ("^backbone/", ""),
        (r"layer(\d)_(\d+)", r"layer\1/\2"),
        ("downsample/conv", "downsample/0"),
        ("downsample/norm", "downsample/1"),
        (r"conv(\d)/conv", r"conv\1"),
        (r"conv(\d)/norm", r"bn\1"),
    ],
    "densenet121": [
        ("^head$", "classifier"),
        ("^backbone/", "features/"),
        (r"denseblock(\d)_(\d+)", r"denseblock\1/denselayer\2"),
        (r"conv(\d)/(conv|norm)", r"\2\1"),
    ],
    "efficientnet_v2_s": [
        ("^head$", "classifier/1"),
        ("^backbone/", "features/"),
        ("first/", "0/"),
        ("last/", "7/"),
        (r"stage([1-3]_\d+)/project", r"stage\1/1"),
        (r"stage([4-6]_\d+)/project", r"stage\1/3"),
        ("depthwise/", "1/"),
        ("gate/", "2/"),
        ("expand/", "0/"),
        (r"stage(\d)_(\d+)", r"\1/\2/block"),
        ("conv$", "0"),
        ("norm$", "1"),
    ],
}
_LEAVES = {
    "kernel": "weight",
    "scale": "weight",
    "bias": "bias",
    "mean": "running_mean",
    "var": "running_var",
}


def from_torchvision(
    name: str, state_dict: Mapping[str, Any], *, num_classes: int | None = None
) -> dict[str, dict[str, Any]]:
    """Turns the state dict of a torchvision model into Flax variables.

    Args:
        name: name of the model for `lmf_jax.models.create_model`.
        state_dict: torchvision's tensor names and the tensors as numpy arrays (or anything that
            `numpy.asarray` takes). Counters (`num_batches_tracked`) are ignored.
        num_classes: number of classes of the model that the variables are for. If the head in
            `state_dict` has another number, it is left out: "params" then has no "head", and the
            caller keeps the one that `model.init` made. None: the head always comes along.

    Returns:
        `{"params": ..., "batch_stats": ...}` with numpy arrays in the dtypes of `state_dict`, for
        a model with a linear head.

    Raises:
        ValueError: if torchvision has no model of that name, or if tensors are missing, unknown or
            of the wrong shape.
    """
    if name not in _RENAMES:
        raise ValueError(
            f"There are no torchvision weights for {name!r}; expected one of {', '.join(_RENAMES)}."
        )
    tensors = {
        _current_name(torch_name): np.asarray(tensor)
        for torch_name, tensor in state_dict.items()
        if not torch_name.endswith("num_batches_tracked")
    }
    head_weight = tensors.get(_torchvision_name(name, ("params", "head", "kernel")), np.ones(1))
    shapes = _variable_shapes(name, num_classes=len(head_weight))
    names = {path: _torchvision_name(name, path) for path in shapes}
    _check_names(name, expected=set(names.values()), given=set(tensors))

    arrays = {path: _to_flax_layout(tensors[names[path]]) for path in shapes}
    wrong = [names[path] for path in shapes if arrays[path].shape != shapes[path]]
    if wrong:
        raise ValueError(
            f"Tensors of the wrong shape for {name}: {_some(wrong)}; give the state dict of "
            f"torchvision's {name}."
        )
    variables = unflatten_dict(arrays)
    if num_classes not in (None, len(head_weight)):
        del variables["params"]["head"]
    return variables


def _current_name(torch_name: str) -> str:
    """Today's name of a tensor: torchvision's DenseNet files still say "norm.1" for "norm1"."""
    return re.sub(r"(denselayer\d+\.(?:norm|conv))\.([12])\.", r"\1\2.", torch_name)


def _torchvision_name(name: str, path: Path) -> str:
    """The name that torchvision gives the variable at `path`."""
    _, *modules, leaf = path
    module = "/".join(modules)
    for pattern, replacement in _RENAMES[name]:
        module = re.sub(pattern, replacement, module)
    return f"{module.replace('/', '.')}.{_LEAVES[leaf]}"


def _variable_shapes(name: str, num_classes: int) -> dict[Path, tuple[int, ...]]:
    model = create_model(name, num_classes=num_classes)
    images = jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.float32)
    variables = jax.eval_shape(model.init, jax.random.key(0), images)
    return {path: leaf.shape for path, leaf in flatten_dict(variables).items()}


def _check_names(name: str, *, expected: set[str], given: set[str]) -> None:
    complaints = [
        f"{kind} tensors: {_some(sorted(names))}"
        for kind, names in (("missing", expected - given), ("unknown", given - expected))
        if names
    ]
    if complaints:
        raise ValueError(
            f"The state dict does not fit {name}: {'; '.join(complaints)}; give the state dict of "
            f"torchvision's {name}."
        )


def _some(names: list[str]) -> str:
    shown = ", ".join(names[:3])
    return shown if len(names) <= 3 else f"{shown} and {len(names) - 3} more"


def _to_flax_layout(tensor: np.ndarray) -> np.ndarray:
    """`[out, in]` to `[in, out]`, `[out, in, rows, columns]` to `[rows, columns, in, out]`."""
    if tensor.ndim == 4:
        return tensor.transpose(2, 3, 1, 0)
    return tensor.T
