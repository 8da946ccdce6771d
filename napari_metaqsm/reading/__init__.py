"""What a reader does with maps: measure, compare, probe, and ask how far they can be trusted."""
