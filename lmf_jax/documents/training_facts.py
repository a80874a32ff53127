"""Facts on the model of a run, its training and its environment."""

from collections.abc import Mapping
from typing import Any

from lmf_jax.documents.facts import EVERY_LINE, Block, Fact, sentence
from lmf_jax.documents.run_files import DocumentedRun
from lmf_jax.evaluation.formatting import (
    format_duration,
    format_fraction,
    format_setting,
)
from lmf_jax.models.registry import get_model, model_names
from lmf_jax.runs.files import best_epoch

Blocks = tuple[Block, ...]

HEADS = {
    "linear": "linear",
    "cosine": "cosine (cosines between features and class weights)",
}
OPTIMIZERS = {
    "adamw": "AdamW (decoupled weight decay)",
    "adam-l2": "Adam with coupled L2 weight decay",
    "sgd": "SGD with Nesterov momentum and coupled L2 weight decay",
}
SAMPLINGS = {
    "uniform": "uniform (each image once per epoch)",
    "class-balanced": "class-balanced (all classes equally likely)",
    "effective-number": "effective-number (classes weighted by their effective number)",
}
AUGMENTATIONS = {
    "none": "none",
    "shift": "shift (by up to 1/8 of the side along both axes)",
    "flip": "flip (mirrored left to right with probability 1/2)",
    "dihedral": "dihedral (one of the eight mirror images and quarter turns of the square)",
    "mirror": "mirror (along each axis with probability 1/2)",
}
SCORES = {"val_macro_f1": "macro F1", "val_dsc": "mean DSC"}


def model(run: DocumentedRun) -> Blocks:
    """Describe the architecture and its outputs."""
    config = run.config
    return (
        *sentence("Architecture: {}.", config.fact("config", "model", show=_architecture)),
        *sentence(
            "Classifier: {}.",
            config.fact("config", "head", show=lambda name: HEADS.get(name, name)),
        ),
        *sentence(
            f"The output is one logit per class for each {run.classified}; the classes are {{}}.",
            config.tell(", ".join(run.class_names), "dataset", "class_names"),
        ),
        *sentence(
            "Besides the image, the model gets this metadata: {}.",
            config.fact("config", "metadata"),
        ),
        *sentence("Precision of the computation: {}.", config.fact("config", "precision")),
    )


def _architecture(name: str) -> str:
    if name not in model_names():  # registered by a file that is not imported here
        return name
    spec = get_model(name)
    return f"{name} ({spec.summary}, with the architecture and constants of {spec.source})"


def initialization(run: DocumentedRun) -> Blocks:
    """State where the initial weights come from."""
    config = run.config
    if config.get("weights") is not None:
        return (
            *sentence("Initial weights: the file {}.", config.fact("weights", "file")),
            *sentence("SHA-256 of this file: {}.", config.fact("weights", "sha256")),
            *_frozen(run),
        )
    return (
        *sentence("Pretrained weights: {}.", config.fact("config", "pretrained", show=_pretrained)),
        *_seed(run),
    )


def _seed(run: DocumentedRun) -> Blocks:
    return sentence(
        "Seed of the random initial weights, of the order of the images and of every random draw: "
        "{}.",
        run.config.fact("config", "seed"),
    )


def _frozen(run: DocumentedRun) -> Blocks:
    return sentence(
        "Whether only the classifier was trained, on fixed features: {}.",
        run.config.fact("config", "freeze_backbone", show=format_setting),
    )


def _pretrained(path: str) -> str:
    return "none (random)" if path == "none" else path.rsplit("/", maxsplit=1)[-1]


def training(run: DocumentedRun) -> Blocks:
    """List the hyperparameters of the training."""
    config = run.config
    return (
        *sentence(
            "Optimizer: {}; initial learning rate {}; weight decay {}.",
            _phrase(run, "optimizer", OPTIMIZERS),
            config.fact("config", "learning_rate", show=format_setting),
            config.fact("config", "weight_decay", show=format_setting),
        ),
        *(
            sentence("Momentum: {}.", config.fact("config", "momentum", show=format_setting))
            if run.setting("optimizer") == "sgd"
            else ()
        ),
        *_schedule(run),
        *sentence(
            "Batch size: {}; micro-batches of a step: {}.",
            config.fact("config", "batch_size"),
            config.fact("config", "accumulate"),
        ),
        *sampling(run),
        *sentence("Random augmentation: {}.", _phrase(run, "augment", AUGMENTATIONS)),
        *sentence(
            "Mixup: {}; CutMix: {}.",
            config.fact("config", "mixup", show=_or_off),
            config.fact("config", "cutmix", show=_or_off),
        ),
        *sentence(
            "Decay of the exponential moving average of the weights: {}.",
            config.fact("config", "ema_decay", show=_or_off),
        ),
        *_seed(run),
        *sentence(
            "Operations set to be deterministic on a GPU: {}.",
            config.fact("config", "deterministic", show=format_setting),
        ),
    )


def sampling(run: DocumentedRun) -> Blocks:
    """State how training images are drawn."""
    return sentence("Sampling of the training images: {}.", _phrase(run, "sampling", SAMPLINGS))


def _phrase(run: DocumentedRun, name: str, phrases: Mapping[str, str]) -> Fact | None:
    return run.config.fact("config", name, show=lambda value: phrases.get(value, value))


def _or_off(value: Any) -> str:
    return format_setting(value) if value else "off"


def _schedule(run: DocumentedRun) -> Blocks:
    config = run.config
    kind = config.fact("config", "schedule")
    factor = config.fact("config", "decay_factor", show=format_setting)
    epochs = config.fact("config", "decay_epochs")
    if run.setting("schedule") == "plateau":
        words = "Schedule: {}; the learning rate is multiplied by {} after {} epochs without a "
        return sentence(f"{words}lower validation loss.", kind, factor, epochs)
    return sentence(
        "Schedule: {}; the learning rate is multiplied by {} every {} epochs.",
        kind,
        factor,
        epochs,
    )


def stopping(run: DocumentedRun) -> Blocks:
    """State how long the model was trained."""
    if not run.history.values:  # a cross-validation, whose folds were trained
        return ()
    history, last = run.history, len(run.history.values) - 1
    seconds = sum(entry["seconds"] for entry in run.timing.values)
    return (
        *sentence(
            "Epochs: at most {}; {} were trained.",
            run.config.fact("config", "epochs"),
            history.fact(last, "epoch"),
        ),
        *sentence(
            "Stopping after epochs without a better validation score: {}.",
            run.config.fact("config", "early_stopping", show=_or_off),
        ),
        *sentence(
            "Training and validation loss of the last epoch: {} and {}.",
            history.fact(last, "train_loss", show=format_fraction),
            history.fact(last, "val_loss", show=format_fraction),
        ),
        *(
            sentence(
                "Duration of the training: {}.",
                run.timing.tell(format_duration(seconds), EVERY_LINE, "seconds"),
            )
            if run.timing.values
            else ()
        ),
    )


def selection(run: DocumentedRun) -> Blocks:
    """State how the tested epoch was chosen, and its validation score."""
    lines = run.history.values
    metric = "val_dsc" if run.is_segmentation else "val_macro_f1"
    if not lines:
        return sentence(
            f"The tested model of each fold is that of the epoch with the largest {SCORES[metric]} "
            "on its validation part."
        )
    best = lines.index(best_epoch(lines, metric))
    score = SCORES[metric]
    return sentence(
        f"The tested model is that of the epoch with the largest {score} on the validation part: "
        f"epoch {{}}, with a validation {score} of {{}}.",
        run.history.fact(best, "epoch"),
        run.history.fact(best, metric, show=format_fraction),
    )


def software(run: DocumentedRun) -> Blocks:
    """List the versions of the software."""
    config = run.config
    packages = [
        config.tell(f"{name} {version}", "versions", name)
        for name, version in config.get("versions").items()
    ]
    return (
        *sentence(f"Software: {', '.join('{}' for _ in packages)}.", *packages),
        *sentence("Commit of the code: {}.", config.fact("git_commit")),
    )


def hardware(run: DocumentedRun) -> Blocks:
    """State on which devices the model was trained."""
    return sentence(
        "Device: {}; platform: {}; number of devices: {}; number of processes: {}.",
        run.config.fact("device", "kind"),
        run.config.fact("device", "platform"),
        run.config.fact("device", "count"),
        run.config.fact("device", "process_count"),
    )


TOPICS = {
    "model": model,
    "initialization": initialization,
    "training": training,
    "sampling": sampling,
    "stopping": stopping,
    "selection": selection,
    "software": software,
    "hardware": hardware,
}
