"""From several local fields of one head, each turned otherwise against B0, to one susceptibility map."""
