"""Golden outputs of others' models with seeded weights, and the script that stores them.

`python -m tests.models.make_golden` needs torch, torchvision, timm and Keras, and writes
`golden/<model>.npz`. The weights are not stored: each tensor is drawn from a generator whose seed
is the CRC-32 of its name, so only the names and shapes are.
"""

import os
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np

MODELS = ("resnet50", "densenet121", "efficientnet_v2_s", "tf_efficientnetv2_s")
KERAS_MODEL = "resnet50_keras"
SIZES = ((224, 224), (97, 131))
NUM_CLASSES = 7
GOLDEN = Path(__file__).parent / "golden"

Shapes = dict[str, tuple[int, ...]]
Outputs = dict[str, np.ndarray]


def _generator(name: str) -> np.random.RandomState:
    """Return a generator with a stream that NumPy has frozen."""
    return np.random.RandomState(zlib.crc32(name.encode()))


def seeded_state_dict(shapes: Shapes) -> dict[str, np.ndarray]:
    """Float64 weights, of a size that keeps activations near 1, with no value at its default."""
    return {name: _seeded_tensor(name, shape) for name, shape in shapes.items()}


def _seeded_tensor(name: str, shape: tuple[int, ...]) -> np.ndarray:
    generator = _generator(name)
    if name.endswith(("running_var", "moving_variance")):
        return generator.uniform(0.5, 1.5, shape)
    if name.endswith(("bias", "beta", "running_mean", "moving_mean")):
        return generator.normal(0, 0.1, shape)
    if len(shape) == 1:
        return generator.uniform(0.5, 1.5, shape)
    inputs = shape[:-1] if name.endswith("kernel") else shape[1:]  # of Keras, else of torch
    return generator.normal(0, np.sqrt(1 / np.prod(inputs)), shape)


def seeded_images(size: tuple[int, int]) -> np.ndarray:
    """Two images `[2, height, width, 3]`."""
    return _generator(f"images {size}").normal(0, 1, (2, *size, 3))


def seeded_cotangent() -> np.ndarray:
    """Return the gradient of the loss of the test with respect to the logits."""
    return _generator("cotangent").normal(0, 1, (2, NUM_CLASSES))


def torch_shapes(name: str) -> Shapes:
    """Names and shapes of the tensors of torchvision's or timm's model, but for the counters."""
    state_dict = _torch_model(name).state_dict()
    return {
        key: tuple(tensor.shape)
        for key, tensor in state_dict.items()
        if not key.endswith("num_batches_tracked")
    }


def torch_outputs(name: str, size: tuple[int, int]) -> Outputs:
    """Logits, input gradients and, after one training step, running statistics, in float64.

    Dropout and stochastic depth are off. `float32_logits` are those of evaluation in float32.
    """
    import torch

    torch.set_num_threads(1)  # several threads wait for each other on a busy machine
    model = _torch_model(name)
    weights = seeded_state_dict(torch_shapes(name))
    model.load_state_dict(
        {key: torch.tensor(value) for key, value in weights.items()}, strict=False
    )
    images = torch.tensor(seeded_images(size).transpose(0, 3, 1, 2).copy())
    outputs = {}
    with torch.no_grad():
        outputs["float32_logits"] = model.float().eval()(images.float()).numpy()
    model = model.double()
    model.load_state_dict(
        {key: torch.tensor(value) for key, value in weights.items()}, strict=False
    )
    for mode in ("eval", "train"):
        inputs = images.clone().requires_grad_()
        logits = model.train(mode == "train")(inputs)
        logits.backward(torch.tensor(seeded_cotangent()))
        outputs[f"{mode}_logits"] = logits.detach().numpy()
        outputs[f"{mode}_gradient"] = inputs.grad.numpy().transpose(0, 2, 3, 1)
    statistics = {
        key: value.numpy() for key, value in model.state_dict().items() if "running" in key
    }
    return outputs | statistics


def _torch_model(name: str):
    import torch
    import torchvision

    if name.startswith("tf_"):
        import timm

        return timm.create_model(name, num_classes=NUM_CLASSES)  # drops nothing unless asked
    model = getattr(torchvision.models, name)(num_classes=NUM_CLASSES)
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout | torchvision.ops.StochasticDepth):
            module.p = 0.0
    return model


def keras_outputs(size: tuple[int, int]) -> tuple[Shapes, np.ndarray]:
    """Names and shapes of the tensors of Keras' ResNet-50, and its logits in evaluation."""
    os.environ["KERAS_BACKEND"] = "jax"
    import keras

    model = keras.applications.ResNet50(
        weights=None, input_shape=(*size, 3), classes=NUM_CLASSES, classifier_activation=None
    )
    shapes = {weight.path: tuple(weight.shape) for weight in model.weights}
    model.set_weights(list(seeded_state_dict(shapes).values()))
    return shapes, np.asarray(model(np.float32(seeded_images(size)), training=False))


def extract(outputs: Mapping[str, np.ndarray]) -> Outputs:
    """Return the stored part of the outputs: logits, pixels of the gradients, checksums."""
    extracted = {key: value for key, value in outputs.items() if key.endswith("logits")}
    for key, value in outputs.items():
        if key.endswith("gradient"):
            extracted[key] = value[:, ::16, ::16]
            extracted[f"{key}_checksum"] = checksum(value)
    running = sorted(key for key in outputs if "running" in key)
    extracted["statistics_checksums"] = np.stack([checksum(outputs[key]) for key in running])
    return extracted


def checksum(values: np.ndarray) -> np.ndarray:
    """Return a sum with varying weights, which detects exchanged entries."""
    flat = np.asarray(values, np.float64).ravel()
    return np.cos(np.arange(flat.size)) @ flat


def main() -> None:
    """Write the golden files."""
    GOLDEN.mkdir(exist_ok=True)
    for name in MODELS:
        golden = {
            "tensors": np.array([f"{key} {shape}" for key, shape in torch_shapes(name).items()])
        }
        for size in SIZES:
            for key, value in extract(torch_outputs(name, size)).items():
                golden[f"{size[0]}x{size[1]}/{key}"] = value
        np.savez_compressed(GOLDEN / f"{name}.npz", **golden)
    golden = {}
    for size in SIZES:
        shapes, golden[f"{size[0]}x{size[1]}/float32_logits"] = keras_outputs(size)
    golden["tensors"] = np.array([f"{key} {shape}" for key, shape in shapes.items()])
    np.savez_compressed(GOLDEN / f"{KERAS_MODEL}.npz", **golden)


if __name__ == "__main__":
    main()
