"""The reading room: look, measure, trust, report."""
