"""The model card of a run."""

from dataclasses import dataclass

from lmf_jax.documents.checklist import answer
from lmf_jax.documents.facts import Topics


@dataclass(frozen=True)
class Section:
    """A section of the model card.

    Attributes:
        title: Its title.
        topics: Names of the topics in it.
        author: What the author has to add; empty for nothing.
    """

    title: str
    topics: tuple[str, ...]
    author: str = ""


SECTIONS = (
    Section(
        "Model",
        ("model", "predictions", "headline"),
        "state the name, version, contact and license of the model.",
    ),
    Section("Intended use", (), "state for whom and for which decision the model is meant."),
    Section(
        "Data",
        ("dataset", "selected", "proportions", "counts", "imbalance", "preprocessing"),
        "cite the source, and describe how images and true classes were obtained.",
    ),
    Section("Split", ("split", "disjoint", "units", "folds")),
    Section("Training", ("loss", "training", "initialization", "stopping", "selection")),
    Section("Software and hardware", ("software", "hardware")),
    Section("Results", ("overall", "intervals", "per_class", "absent", "few_units", "confusions")),
    Section("Calibration", ("calibration",)),
    Section("Operating points", ("operating_points",)),
    Section("Prediction sets", ("prediction_sets",)),
    Section("Subgroups", ("subgroups",)),
    Section("External tests", ("external",)),
    Section(
        "Limits",
        ("limits",),
        "describe further limits, and uses that the model is not meant for.",
    ),
)


def render_model_card(topics: Topics) -> str:
    """Return the model card as Markdown.

    Args:
        topics: The facts of the run.
    """
    lines = [
        "# Model card",
        "",
        "Draft made from the files of a run by `python -m lmf_jax card`. Paths in code are the "
        "file and the key of a statement.",
    ]
    for section in SECTIONS:
        blocks = [block for name in section.topics for block in topics[name]]
        if blocks or section.author:
            lines += ["", f"## {section.title}", "", *answer(blocks, section.author)]
    return "\n".join(lines) + "\n"
