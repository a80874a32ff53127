"""Training: the step, the loop, checkpoints and what a person sees meanwhile."""
