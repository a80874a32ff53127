"""Facts on the subgroups of a test by the metadata of its images."""

from lmf_jax.documents.facts import Block, Cell, JsonFile, Missing, sentence, table
from lmf_jax.documents.result_facts import UNITS, interval, percent, with_interval
from lmf_jax.documents.run_files import SUBGROUPS, DocumentedRun
from lmf_jax.evaluation.classification.subgroups import SUBGROUP_TITLES
from lmf_jax.evaluation.comparison import format_p
from lmf_jax.evaluation.formatting import format_count, format_difference, format_fraction

Blocks = tuple[Block, ...]


def subgroups(run: DocumentedRun) -> Blocks:
    """State the metrics of subgroups, and how they differ from the other images."""
    if run.is_segmentation:
        return ()
    file = run.optional.get(SUBGROUPS)
    if file is None:
        subject = "subgroups, which need a dataset with metadata"
        return (Missing(subject, SUBGROUPS, "python -m lmf_jax evaluate RUN"),)
    return (
        *(block for name in file.get("columns") for block in _column(file, name)),
        *sentence(
            "Difference: {} of the subgroup less that of the images with another known value; p: "
            "permutation test with {} permutations, corrected for all subgroups (Holm); permuted "
            "units: {}; level of the intervals: {}.",
            file.fact("compared"),
            file.fact("permutations", show=format_count),
            file.fact("drawn", show=lambda name: UNITS.get(name, name)),
            file.fact("level", show=percent),
        ),
        *(
            block
            for name, count in file.get("left_out").items()
            for block in sentence(
                "Column of the metadata without subgroups, and its number of values: {}.",
                file.tell(f"{name} ({format_count(count)})", "left_out", name),
            )
        ),
    )


def _column(file: JsonFile, name: str) -> Blocks:
    key = ("columns", name)
    unknown = file.get(*key, "unknown")
    rows: list[tuple[Cell, ...]] = []
    for number in range(len(file.get(*key, "subgroups"))):
        place = (*key, "subgroups", number)
        rows.append(
            (
                file.fact(*place, "value"),
                file.fact(*place, "images", show=format_count),
                file.fact(*place, "units", show=format_count),
                *(
                    with_interval(
                        file.fact(*place, metric, show=format_fraction),
                        interval(file, *place, "intervals", metric),
                    )
                    for metric in SUBGROUP_TITLES
                ),
                file.fact(*place, "difference", show=format_difference),
                file.fact(*place, "corrected_p_value", show=format_p),
            )
        )
    titles = [f"{title} (interval)" for title in SUBGROUP_TITLES.values()]
    return (
        *sentence(
            "Subgroups by {}.",
            file.tell(f"{name} (unknown for {format_count(unknown)} images)", *key, "unknown"),
        ),
        *table(("value", "images", "independent units", *titles, "difference", "p"), rows),
    )


TOPICS = {"subgroups": subgroups}
