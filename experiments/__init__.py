"""Entry points: the file name is the command, `python -m experiments.NAME`."""
