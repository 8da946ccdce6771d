"""What each inversion method reaches on scans whose susceptibility is known."""
