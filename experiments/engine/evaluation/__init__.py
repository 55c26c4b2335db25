"""Frozen features: embed once, then probe, neighbours, few shots, geometry."""
