"""The setup of tests: four forced CPU devices, strict promotion, quick and cached compilation."""

import gc
import os
import tempfile

from tests.helpers.quick_compilation import QUICK_EMITTERS

# Before jax is imported: the flags are read once.
own_flags = f"--xla_force_host_platform_device_count=4 {QUICK_EMITTERS}"
os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {own_flags}"
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("JAX_NUMPY_RANK_PROMOTION", "raise")
os.environ.setdefault("JAX_NUMPY_DTYPE_PROMOTION", "strict")
os.environ.setdefault(
    "JAX_COMPILATION_CACHE_DIR", os.path.join(tempfile.gettempdir(), "lmf-jax-test-compilations")
)
# Small programs too, which every run of train.py compiles again.
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.1")
# Most tests compile for longer than they run; those that do not ask for fast programs themselves.
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
os.environ.setdefault("MPLBACKEND", "Agg")

# Traced programs are many objects and few cycles; to look for them at every 700th takes a twentieth
# of the time.
gc.set_threshold(50_000, 20, 10)

from jaxtyping import install_import_hook  # noqa: E402

# The annotated shapes are checked on every call that a test makes.
install_import_hook(["lmf_jax", "data"], "beartype.beartype")

from absl import flags  # noqa: E402

if not flags.FLAGS.is_parsed():  # Grain's worker processes read absl flags
    flags.FLAGS.mark_as_parsed()

import jax  # noqa: E402
import pytest  # noqa: E402


@pytest.fixture(scope="module", autouse=True)
def give_back_compiled_programs():
    """Programs of the full models take gigabytes; no other module calls them."""
    yield
    jax.clear_caches()


@pytest.fixture(params=["shard_map_step", pytest.param("pmap_step", marks=pytest.mark.slow)])
def each_form(request, monkeypatch):
    """Run the test with each form of the mapped step, and return its name."""
    from lmf_jax.distributed import devices

    monkeypatch.setattr(devices, "map_step", getattr(devices, request.param))
    return request.param


@pytest.fixture
def without_pictures(monkeypatch):
    """Pictures take most of a report's time; for tests of what is written beside them."""
    save_figure = "lmf_jax.evaluation.figures.save_figure"
    monkeypatch.setattr(save_figure, lambda figure, path: path.write_bytes(b"PNG"))
