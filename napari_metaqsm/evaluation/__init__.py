"""Agreement of a map with a reference."""
