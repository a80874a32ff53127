"""The ordered collection of all facts of a run."""

from collections.abc import Callable, Mapping

from lmf_jax.documents import (
    data_facts,
    decision_facts,
    external_facts,
    loss_facts,
    operating_facts,
    result_facts,
    study_facts,
    subgroup_facts,
    training_facts,
)
from lmf_jax.documents.facts import Block, Topics
from lmf_jax.documents.run_files import DocumentedRun

TOPICS: Mapping[str, Callable[[DocumentedRun], tuple[Block, ...]]] = (
    data_facts.TOPICS
    | training_facts.TOPICS
    | loss_facts.TOPICS
    | result_facts.TOPICS
    | decision_facts.TOPICS
    | operating_facts.TOPICS
    | subgroup_facts.TOPICS
    | external_facts.TOPICS
    | study_facts.TOPICS
)
"""The function of each topic, by the name that the documents use."""


def collect(run: DocumentedRun) -> Topics:
    """Return the blocks of every topic, in a fixed order."""
    return {name: describe(run) for name, describe in TOPICS.items()}
