"""Configs: data, not code. One file a family, presets behind a colon."""
