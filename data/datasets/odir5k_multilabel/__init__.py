"""ODIR-5K: fundus photographs with the diagnoses of both eyes of the patient."""

from data.registry import DatasetSpec

DATASET = DatasetSpec(
    name="odir5k_multilabel",
    summary="6,392 fundus photographs with the diagnoses of both eyes, eight labels",
    task="multilabel",
    kind="download",
)
