"""Quantitative susceptibility mapping: phase to field, mask, local field, susceptibility."""
