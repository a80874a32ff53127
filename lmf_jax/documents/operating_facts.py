"""Facts on the operating points of a run: thresholds and their error rates."""

from lmf_jax.documents.decision_facts import missing
from lmf_jax.documents.facts import Block, Cell, JsonFile, Key, Sentence, sentence, table
from lmf_jax.documents.result_facts import percent
from lmf_jax.documents.run_files import OPERATING_POINTS, DocumentedRun
from lmf_jax.evaluation.formatting import format_count, format_fraction, format_setting
from lmf_jax.evaluation.operating.description import format_threshold

Blocks = tuple[Block, ...]

TARGETS = {
    "sensitivity": "sensitivity of at least",
    "specificity": "specificity of at least",
    "ppv": "positive predictive value (PPV) of at least",
    "cost_ratio": "lowest cost, with a ratio of the costs of a missed case and a false alarm of",
}
RATES = {
    "sensitivity": "sensitivity",
    "specificity": "specificity",
    "ppv": "positive predictive value (PPV)",
    "npv": "negative predictive value (NPV)",
    "flagged": "fraction of the images called positive",
}
COUNTS = ("true_positives", "false_negatives", "false_positives", "true_negatives")


def operating_points(run: DocumentedRun) -> Blocks:
    """State the thresholds and their sensitivity, specificity and predictive values."""
    if run.is_segmentation:
        return ()
    file = run.optional.get(OPERATING_POINTS)
    if file is None:
        command = "python -m lmf_jax operate RUN --class CLASS --sensitivity VALUE"
        return missing(run, "operating points", OPERATING_POINTS, command)
    return tuple(block for name in file.get("points") for block in _point(file, ("points", name)))


def _point(file: JsonFile, key: Key) -> Blocks:
    prevalence = file.fact(*key, "at_prevalence", "prevalence", show=format_setting)
    return (
        *sentence(
            "Operating point for the class {}, chosen on the validation part: {} {}; an image is "
            "positive if its calibrated probability of the class is at least {}.",
            file.fact(*key, "class"),
            file.fact(*key, "target", "kind", show=lambda kind: TARGETS.get(kind, kind)),
            file.fact(*key, "target", "value", show=format_setting),
            file.fact(*key, "threshold", show=format_threshold),
        ),
        *_guarantee(file, key),
        *sentence(
            "Test part: {} true positives, {} false negatives, {} false positives and {} true "
            "negatives.",
            *(file.fact(*key, "test", name, show=format_count) for name in COUNTS),
        ),
        *sentence(
            "Prevalence in the last column of the table: {}.",
            prevalence,
        ),
        *table(
            ("rate", "test part", *(["at this prevalence"] if prevalence else [])),
            [
                (
                    title,
                    _rate(file, (*key, "rates", name)),
                    *([_rate(file, (*key, "at_prevalence", "rates", name))] if prevalence else []),
                )
                for name, title in RATES.items()
            ],
        ),
        *sentence(
            "Intervals of these rates: level {}.", file.fact(*key, "interval_level", show=percent)
        ),
    )


def _guarantee(file: JsonFile, key: Key) -> Blocks:
    if file.get(*key, "target", "kind") == "cost_ratio":
        return sentence(
            "No guarantee is made for a ratio of costs. Expected cost of an image on the "
            "validation part, in false alarms: {}.",
            file.fact(*key, "estimate", show=format_fraction),
        )
    return (
        *sentence(
            "Whether this target is guaranteed for new images like those of the validation part: "
            "{}; confidence: {}; value on the validation part: {}.",
            file.fact(*key, "guaranteed", show=format_setting),
            file.fact(*key, "guarantee_level", show=percent),
            file.fact(*key, "estimate", show=format_fraction),
        ),
        *sentence(
            "Lower confidence bound from the validation part: {}.",
            file.fact(*key, "bound", show=format_fraction),
        ),
    )


def _rate(file: JsonFile, key: Key) -> Cell:
    facts = [file.fact(*key, end, show=format_fraction) for end in ("value", "low", "high")]
    known = tuple(fact for fact in facts if fact is not None)
    return Sentence("{} ({} to {})", known) if len(known) == len(facts) else None


TOPICS = {"operating_points": operating_points}
