"""Faults on purpose, and an independent look at whether every promise held. `python -m tests.chaos` runs them all."""
