"""The validation of a classifier."""

import numpy as np
import pytest

from lmf_jax.config import Config
from lmf_jax.errors import TrainingStopped
from lmf_jax.training import classification
from tests.helpers.tiny_training import tiny_model


@pytest.mark.parametrize("logit", [np.nan, np.inf, 3e38])
def test_loss_or_logits_that_are_not_finite_stop_a_validation(logit, monkeypatch):
    monkeypatch.setattr(
        classification, "create_model", lambda name, **settings: tiny_model(**settings)
    )
    config = Config.of(image_size=32, batch_size=8, loss="ldam").resolve({})
    program = classification.make_classification(config, np.array([20, 10, 5]))
    logits = np.float32([[logit, 0, -3e38]])
    monkeypatch.setattr(classification, "predict", lambda *_: (logits, np.array([2])))
    with pytest.raises(TrainingStopped, match="logits or loss of epoch 1 are not finite"):
        program.validate({}, [], step=4)
