"""Flags for faster XLA compilation on a CPU, at the cost of slower programs."""

import re
from importlib.metadata import version

QUICK_EMITTERS = "--xla_cpu_parallel_codegen_split_count=1"

FEW_PASSES = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
"""The flags of ``jax_disable_most_optimizations``; a test can turn them off for its programs."""

AS_RELEASED = {"xla_backend_optimization_level": 3, "xla_llvm_disable_expensive_passes": False}
"""Options that compile a program as a user's: for one that runs for longer than it compiles."""

if tuple(map(int, re.findall(r"\d+", version("jaxlib"))[:2])) < (0, 11):  # gone since then
    QUICK_EMITTERS += " --xla_cpu_use_fusion_emitters=false"
    AS_RELEASED["xla_cpu_use_fusion_emitters"] = True
