"""Commands are tested without the pictures of their reports, which take most of the time."""

import pytest


@pytest.fixture(scope="module", autouse=True)
def reports_without_pictures():
    """Save no figures; tests/evaluation looks at them."""
    with pytest.MonkeyPatch.context() as patch:
        save_figure = "lmf_jax.evaluation.figures.save_figure"
        patch.setattr(save_figure, lambda figure, path: path.write_bytes(b"PNG"))
        yield
