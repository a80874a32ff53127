"""The tables of the LMFLoss paper: what it prints, and the runs that reproduce it."""
