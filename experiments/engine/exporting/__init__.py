"""A run as files for others: safetensors, StableHLO, a model card, a parity check."""
