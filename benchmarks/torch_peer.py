"""PyTorch's side of a comparison: the same architecture and step, written as its users write it."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torchvision


def make_step(
    model_name: str, num_classes: int, images: np.ndarray, labels: np.ndarray
) -> Callable[[], Any]:
    """Return a training step on one batch: forward, backward, AdamW; call it to run and wait.

    Images are channels-last. On a GPU the model is compiled and computes in bfloat16 by autocast.

    Args:
        model_name: an architecture of torchvision's.
        num_classes: outputs of the head.
        images: uint8 ``[B, H, W, 3]``.
        labels: int ``[B]``.
    """
    on_gpu = torch.cuda.is_available()
    device = torch.device("cuda" if on_gpu else "cpu")
    model = torchvision.models.get_model(model_name, num_classes=num_classes)
    model = model.to(device, memory_format=torch.channels_last).train()
    forward = torch.compile(model) if on_gpu else model
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, weight_decay=5e-4)
    pixels = torch.from_numpy(images).to(device).permute(0, 3, 1, 2)  # channels-last as it lies
    targets = torch.from_numpy(labels).long().to(device)
    mean = torch.tensor([0.485, 0.456, 0.406], device=device).view(1, 3, 1, 1)
    std = torch.tensor([0.229, 0.224, 0.225], device=device).view(1, 3, 1, 1)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        inputs = (pixels.float() / 255 - mean) / std
        with torch.autocast(device.type, torch.bfloat16, enabled=on_gpu):
            loss = torch.nn.functional.cross_entropy(forward(inputs), targets)
        loss.backward()
        optimizer.step()
        if on_gpu:
            torch.cuda.synchronize()

    return step


def make_lmf_loss(
    logits: np.ndarray, labels: np.ndarray, margins: np.ndarray, gamma: float = 1.5
) -> Callable[[], Any]:
    """Return LMF as its authors release it, eager and with its gradient; call it to run and wait.

    LDAM at scale 30, weighted by the margins and divided by the sum of these weights, plus the
    focal loss weighted by the margins and divided by the number of examples.

    Args:
        logits: ``[N, C]``.
        labels: int ``[N]``.
        margins: ``[C]``.
        gamma: focusing parameter.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    scores = torch.from_numpy(logits).to(device).requires_grad_()
    targets = torch.from_numpy(labels).long().to(device)
    class_margins = torch.from_numpy(margins).to(device)

    def call() -> None:
        scores.grad = None
        own = torch.zeros_like(scores, dtype=torch.bool).scatter_(1, targets[:, None], True)
        lowered = torch.where(own, scores - class_margins[targets][:, None], scores)
        ldam = torch.nn.functional.cross_entropy(30 * lowered, targets, weight=class_margins)
        ce = torch.nn.functional.cross_entropy(scores, targets, reduction="none")
        focal = (class_margins[targets] * (1 - torch.exp(-ce)) ** gamma * ce).mean()
        (ldam + focal).backward()
        if device.type == "cuda":
            torch.cuda.synchronize()

    return call
