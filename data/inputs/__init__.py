"""Inputs of a run or of a prediction."""
