"""The table of tasks: no work is done twice between training and test."""

from types import SimpleNamespace

import numpy as np

from lmf_jax.cli.tasks import TASKS
from lmf_jax.config import Config
from lmf_jax.training import classification
from tests.helpers.tiny_training import tiny_model


def test_the_test_of_a_classifier_uses_the_step_that_validated_it(monkeypatch):
    monkeypatch.setattr(classification, "create_model", lambda _, **options: tiny_model(**options))
    config = Config.of(image_size=32, batch_size=8).resolve({})
    program = classification.make_classification(config, np.array([9, 3, 3]))
    inputs = SimpleNamespace(description={"class_names": ["a", "b", "c"]})
    model = TASKS["classification"].trained_model(config, inputs, program, {})
    assert model.predict_step is program.predict_step
