"""Figures over seeds and HTML pages that hold them."""
