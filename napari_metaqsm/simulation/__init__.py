"""Scans with a known susceptibility."""
