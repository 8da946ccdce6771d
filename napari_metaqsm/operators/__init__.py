"""The linear operators of the field: Fourier transform, dipole, sphere, gradient, padding."""
