import subprocess
import sys

HEAVY = ("flax", "optax", "orbax", "grain", "tensorflow_datasets", "tensorflow", "sklearn")
HEAVY += ("matplotlib", "torch", "tyro", "PIL")


def test_importing_the_losses_loads_jax_and_nothing_heavier():
    code = (
        "import sys, lmf_jax; from lmf_jax import lmf_loss, class_margins; import lmf_jax.losses;"
        f"print([name for name in {HEAVY} if name in sys.modules])"
    )
    command = [sys.executable, "-c", code]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
