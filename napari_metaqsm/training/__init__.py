"""Training: examples made on the fly, losses, and the fit."""
