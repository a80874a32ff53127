import importlib.util
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lmf_jax.cli.command_line import parse_config
from lmf_jax.losses import (
    LossConfig,
    Term,
    build_objective,
    cross_entropy_loss,
    make_objective,
    register_loss,
    register_segmentation_loss,
    registry,
)

COUNTS = [100, 20, 5]
LOGITS = jnp.array([[2, 0.5, -1], [0.1, 0.3, 0.2], [-0.4, 1.2, 0.9], [1, -1, 0.8]])
LABELS = jnp.array([0, 1, 2, 2])

OWN_LOSS = '''
"""Poly-1 cross entropy, for training on rare classes."""

from functools import partial

import jax.numpy as jnp

from lmf_jax.losses import Term, map_examples, register_loss
from lmf_jax.losses.log_odds import log_odds_against


def poly1_loss(logits, labels, *, epsilon=1.0, where=None):
    return map_examples(poly1, logits, labels, where, epsilon)


def poly1(logits, label, epsilon):
    log_odds = log_odds_against(logits, label)
    return jnp.logaddexp(0, log_odds) + epsilon / (1 + jnp.exp(-log_odds))


@register_loss(
    "poly-1",
    task="classification",
    summary="cross entropy + tau * (1 - p)",
    paper="Leng et al. 2022, arXiv 2204.12511",
    options=["tau"],
)
def build_poly1(class_counts, config, head):
    return [Term(1.0, partial(poly1_loss, epsilon=config.tau))]
'''


@pytest.fixture(autouse=True)
def own_registry(monkeypatch):
    monkeypatch.setattr(registry, "_LOSSES", dict(registry._LOSSES))


def load(path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def own_file(tmp_path):
    path = tmp_path / "poly1.py"
    path.write_text(OWN_LOSS)
    load(path)
    return path


def test_a_loss_of_a_file_outside_the_package_is_used_like_any_other(own_file, capsys):
    assert len(own_file.read_text().splitlines()) < 30
    probabilities = jax.nn.softmax(LOGITS)[jnp.arange(4), LABELS]
    expected = (-jnp.log(probabilities) + 2 * (1 - probabilities)).mean()
    objective = make_objective("poly-1", COUNTS, tau=2.0)
    np.testing.assert_allclose(objective(LOGITS, LABELS), expected, rtol=1e-6)
    config = parse_config(["--loss", "poly-1", "--tau", "2"])
    objective = build_objective(config.loss, COUNTS, head=config.model.head)
    np.testing.assert_allclose(objective(LOGITS, LABELS), expected, rtol=1e-6)
    with pytest.raises(SystemExit):
        parse_config(["--help"])
    shown = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert ",lmf,poly-1" in shown.replace(" ", "")
    assert "poly-1: cross entropy + tau * (1 - p) (Leng et al. 2022, arXiv 2204.12511)." in shown
    with pytest.raises(ValueError, match="delta was given with loss 'poly-1'"):
        make_objective("poly-1", COUNTS, delta=0.5)
    with pytest.raises(ValueError, match="has it: logit-adjustment, poly-1"):
        make_objective("ce", COUNTS, tau=2.0)


def test_a_file_may_be_loaded_again_and_no_other_may_take_its_name(own_file, tmp_path):
    load(own_file)
    other = tmp_path / "other.py"
    other.write_text(OWN_LOSS)
    with pytest.raises(ValueError, match=r"named 'poly-1' is registered by poly1.build_poly1;"):
        load(other)


def test_a_segmentation_loss_has_the_parameters_of_its_function_as_options():
    @register_segmentation_loss("error", summary="1 - p of the background", paper="none")
    def error_loss(logits, labels, *, gamma=1.0, form="released", where=None):
        error = 1 - jax.nn.softmax(logits)[..., 0].mean((1, 2))
        return (2.0 if form == "paper" else 1.0) * error**gamma

    maps, labels = jnp.zeros((2, 3, 4, 3)), jnp.zeros((2, 3, 4), jnp.int32)
    for options, expected in (
        ({}, 2 / 3),
        ({"gamma": 2.0}, 4 / 9),
        ({"form": "paper"}, 4 / 3),
        ({"form": "paper-v1"}, 4 / 3),
    ):
        objective = make_objective("error", COUNTS, **options)
        np.testing.assert_allclose(objective(maps, labels), expected, rtol=1e-6)
    with pytest.raises(ValueError, match="delta was given with loss 'error'"):
        make_objective("error", COUNTS, delta=0.5)


def test_an_option_that_no_flag_sets_is_refused():
    with pytest.raises(ValueError, match="Unknown option 'epsilon'; expected one of alpha, beta"):
        register_loss("own", task="classification", summary="", paper="", options=["epsilon"])


def test_values_of_a_wrong_shape_are_named_before_training():
    @register_loss("mean", task="classification", summary="", paper="")
    def build(class_counts, config, head):
        return [Term(1.0, lambda *batch, where: cross_entropy_loss(*batch, where=where).mean())]

    with pytest.raises(ValueError, match=r"'mean' gives values of shape \(\) for labels of shape"):
        make_objective("mean", COUNTS)


def test_an_objective_of_a_configuration_ignores_the_options_of_other_losses():
    config = LossConfig("ce", tau=3.0, delta=0.2, drw_start=0.1)
    expected = make_objective("ce", COUNTS)(LOGITS, LABELS)
    np.testing.assert_array_equal(build_objective(config, COUNTS)(LOGITS, LABELS), expected)


def test_every_loss_has_a_summary_and_a_paper():
    for spec in registry.registered_losses():
        assert spec.summary and "\n" not in spec.summary, spec.name
        assert re.search(r"\d{4}, arXiv \d{4}\.\d{5}", spec.paper), spec.name
    assert registry.loss_names() == (
        *registry.loss_names("classification"),
        *registry.loss_names("segmentation"),
    )


@pytest.mark.parametrize(
    ("loss", "form", "head", "scale", "expected"),
    [
        ("ldam", "released", "linear", None, 30.0),
        ("ldam", "paper", "linear", None, 1.0),
        ("ldam-drw", "paper", "linear", None, 30.0),
        ("ldam-drw", "paper", "linear", 7.0, 7.0),
        ("lmf", "released", "linear", 7.0, 1.0),
        ("lmf", "paper", "cosine", None, 30.0),
        ("lmf", "paper", "cosine", 7.0, 7.0),
    ],
)
def test_the_scale_of_the_logits_belongs_to_the_loss(loss, form, head, scale, expected):
    spec = registry.get_loss(loss)
    assert spec.logit_scale(LossConfig(loss, form, scale=scale), head) == expected
