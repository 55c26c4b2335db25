"""Runs of several seeds and configs side by side: `python -m experiments.compare`."""
