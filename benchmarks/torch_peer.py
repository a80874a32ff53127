"""PyTorch's side of a comparison: the same architecture and step in typical PyTorch.

Images are channels-last. On a GPU the model is compiled and computes in bfloat16 by autocast.
"""

import multiprocessing
import re
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torchvision

ON_GPU = torch.cuda.is_available()
DEVICE = torch.device("cuda" if ON_GPU else "cpu")


def make_step(
    model_name: str, num_classes: int, images: np.ndarray, labels: np.ndarray
) -> Callable[[], Any]:
    """Return a training step on one batch: forward, backward, AdamW; call it to run and wait.

    Args:
        model_name: An architecture of torchvision's.
        num_classes: Outputs of the head.
        images: Uint8 ``[B, H, W, 3]``.
        labels: Int ``[B]``.
    """
    model = _model(model_name, num_classes).train()
    forward = _forward(model, images)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, weight_decay=5e-4)
    targets = torch.from_numpy(labels).long().to(DEVICE)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        torch.nn.functional.cross_entropy(forward(), targets).backward()
        optimizer.step()
        _wait()

    return step


def step_megabytes(
    model_name: str, num_classes: int, images: np.ndarray, labels: np.ndarray
) -> float:
    """Return the peak memory of model, optimizer and a few steps in megabytes.

    They run in a separate process. On a CPU, the result is the peak of the process minus its memory
    before the model was made.

    Args:
        model_name: An architecture of torchvision's.
        num_classes: Outputs of the head.
        images: Uint8 ``[B, H, W, 3]``.
        labels: Int ``[B]``.
    """
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
        return process.submit(_peak, model_name, num_classes, images, labels).result()


def _peak(model_name: str, num_classes: int, images: np.ndarray, labels: np.ndarray) -> float:
    before = _memory("VmRSS")
    step = make_step(model_name, num_classes, images, labels)
    for _ in range(3):
        step()
    return torch.cuda.max_memory_allocated() / 1e6 if ON_GPU else _memory("VmHWM") - before


def _memory(which: str) -> float:
    """Return a memory counter of Linux for this process in megabytes."""
    found = re.search(rf"{which}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1]) * 1024 / 1e6


def make_inference(model_name: str, num_classes: int, images: np.ndarray) -> Callable[[], Any]:
    """Return the forward pass in evaluation mode on one batch; call it to run and wait.

    Args:
        model_name: An architecture of torchvision's.
        num_classes: Outputs of the head.
        images: Uint8 ``[B, H, W, 3]``.
    """
    forward = _forward(_model(model_name, num_classes).eval(), images)

    def call() -> None:
        with torch.inference_mode():
            forward()
        _wait()

    return call


def make_convolution(images: np.ndarray, kernel: np.ndarray, stride: int) -> Callable[[], Any]:
    """Return a convolution with both of its gradients; call it to run and wait.

    Args:
        images: ``[B, H, W, C]``.
        kernel: ``[K, K, C, F]``, or ``[K, K, 1, C]`` for a depthwise one.
        stride: Step in pixels.
    """
    pixels = torch.from_numpy(images).to(DEVICE).permute(0, 3, 1, 2).requires_grad_()
    weights = torch.from_numpy(kernel).to(DEVICE).permute(3, 2, 0, 1)
    weights = weights.contiguous(memory_format=torch.channels_last).requires_grad_()
    groups = images.shape[-1] // kernel.shape[2]

    def call() -> None:
        pixels.grad = weights.grad = None
        outputs = torch.nn.functional.conv2d(
            pixels, weights, stride=stride, padding=kernel.shape[0] // 2, groups=groups
        )
        outputs.backward(torch.ones_like(outputs))
        _wait()

    return call


def make_lmf_loss(
    logits: np.ndarray, labels: np.ndarray, margins: np.ndarray, gamma: float = 1.5
) -> Callable[[], Any]:
    """Return the released LMF loss, eager and with its gradient; call it to run and wait.

    LDAM at scale 30, weighted by the margins and divided by the sum of these weights, plus the
    focal loss weighted by the margins and divided by the number of examples.

    Args:
        logits: ``[N, C]``.
        labels: Int ``[N]``.
        margins: ``[C]``.
        gamma: Focusing parameter.
    """
    scores = torch.from_numpy(logits).to(DEVICE).requires_grad_()
    targets = torch.from_numpy(labels).long().to(DEVICE)
    class_margins = torch.from_numpy(margins).to(DEVICE)

    def call() -> None:
        scores.grad = None
        is_target = torch.zeros_like(scores, dtype=torch.bool).scatter_(1, targets[:, None], True)
        lowered = torch.where(is_target, scores - class_margins[targets][:, None], scores)
        ldam = torch.nn.functional.cross_entropy(30 * lowered, targets, weight=class_margins)
        ce = torch.nn.functional.cross_entropy(scores, targets, reduction="none")
        focal = (class_margins[targets] * (1 - torch.exp(-ce)) ** gamma * ce).mean()
        (ldam + focal).backward()
        _wait()

    return call


def _model(name: str, num_classes: int) -> torch.nn.Module:
    model = torchvision.models.get_model(name, num_classes=num_classes)
    return model.to(DEVICE, memory_format=torch.channels_last)


def _forward(model: torch.nn.Module, images: np.ndarray) -> Callable[[], torch.Tensor]:
    """Return what normalizes the images and gives the model's logits."""
    compiled = torch.compile(model) if ON_GPU else model
    pixels = torch.from_numpy(images).to(DEVICE).permute(0, 3, 1, 2)  # channels-last in memory
    mean = torch.tensor([0.485, 0.456, 0.406], device=DEVICE).view(1, 3, 1, 1)
    std = torch.tensor([0.229, 0.224, 0.225], device=DEVICE).view(1, 3, 1, 1)

    def forward() -> torch.Tensor:
        with torch.autocast(DEVICE.type, torch.bfloat16, enabled=ON_GPU):
            return compiled((pixels.float() / 255 - mean) / std)

    return forward


def _wait() -> None:
    if ON_GPU:
        torch.cuda.synchronize()
