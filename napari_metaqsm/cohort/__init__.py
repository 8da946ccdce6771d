"""Many scans: what is to be done, where it is computed, and what came of it."""
