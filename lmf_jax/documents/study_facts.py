"""Facts that summarize a run for its documents: metrics, inputs, predictions, limits."""

from lmf_jax.documents import data_facts, result_facts
from lmf_jax.documents.facts import Block, Cell, sentence, table
from lmf_jax.documents.result_facts import OVERALL
from lmf_jax.documents.run_files import DocumentedRun
from lmf_jax.evaluation.formatting import format_count, format_fraction

Blocks = tuple[Block, ...]

FOLD_METRICS = {
    "classification": {"macro_f1": "macro F1", "accuracy": "accuracy"},
    "segmentation": {"dsc": "DSC", "iou": "IoU"},
}


def metrics(run: DocumentedRun) -> Blocks:
    """Name the metrics of the test."""
    names = ", ".join(OVERALL[run.task].values())
    if run.is_segmentation:
        return sentence(
            f"Metrics of each case and class: {names}; they are averaged over the cases, and then "
            "over the classes but the background, each with the same weight."
        )
    return sentence(
        f"Metrics: {names}. Macro means give every class the same weight, whatever its frequency."
    )


def inputs(run: DocumentedRun) -> Blocks:
    """State what the model receives."""
    kind = "volume" if run.has_volumes else "image"
    return sentence(f"The {kind} is the only input of the model; other data are not used.")


def predictions(run: DocumentedRun) -> Blocks:
    """State how predictions are computed."""
    unit = run.classified
    return sentence(
        f"The predicted class of {'a' if unit != 'image' else 'an'} {unit} is the one with the "
        "largest probability; `python -m lmf_jax predict RUN` computes the predictions of new "
        "images."
    )


def explanations(run: DocumentedRun) -> Blocks:
    """State how results are explained."""
    if run.is_segmentation:
        return ()
    return sentence(
        "Method of explanation: Grad-CAM; `python -m lmf_jax explain RUN` draws it over an image."
    )


def selected(run: DocumentedRun) -> Blocks:
    """State which part of the dataset was selected."""
    return sentence(
        "Only images with this metadata were used: {}.", run.config.fact("config", "where")
    )


def folds(run: DocumentedRun) -> Blocks:
    """State the folds of a cross-validation, and their metrics."""
    config, test, each = run.config, run.test, run.test.get("folds", "each")
    if not each:
        return (
            *sentence(
                "This run is fold {} of a cross-validation with {} folds.",
                config.fact("config", "fold"),
                config.fact("config", "folds"),
            ),
        )
    titles = FOLD_METRICS[run.task]
    rows: list[tuple[Cell, ...]] = [
        (
            test.tell(
                f"{number + 1} ({format_count(fold['size'])})", "folds", "each", number, "size"
            ),
            *(test.fact("folds", "each", number, name, show=format_fraction) for name in titles),
        )
        for number, fold in enumerate(each)
    ]
    for row, title in {"mean": "mean", "standard_deviation": "standard deviation"}.items():
        cells = (test.fact("folds", row, name, show=format_fraction) for name in titles)
        rows.append((title, *cells))
    unit = f"{run.example}s"
    return (
        *sentence(
            f"Cross-validation with {{}} folds: all {unit} were tested, each by the model that was "
            "not trained or selected on it; the metrics are those of all of them together, and the "
            "numbers of the training and validation parts are means over the folds.",
            config.fact("config", "folds"),
        ),
        *table((f"fold (test {unit})", *titles.values()), rows),
        *sentence(
            "The models of the folds share training data: the standard deviation is no standard "
            "error."
        ),
    )


def limits(run: DocumentedRun) -> Blocks:
    """State the limits that the files of the run show."""
    runs = "Each fold was" if run.is_cross_validation else "The model was"
    unknown_units = result_facts.units(run) if run.groups is None else ()
    return (
        *data_facts.disjoint(run),
        *unknown_units,
        *result_facts.absent(run),
        *result_facts.few_units(run),
        *data_facts.split_notes(run),
        *sentence(
            f"{runs} trained once, with the seed {{}}; the variation between seeds is not part of "
            "the intervals.",
            run.config.fact("config", "seed"),
        ),
    )


TOPICS = {
    "metrics": metrics,
    "inputs": inputs,
    "predictions": predictions,
    "explanations": explanations,
    "selected": selected,
    "folds": folds,
    "limits": limits,
}
