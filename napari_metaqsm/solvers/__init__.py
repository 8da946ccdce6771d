"""Iterative solvers on plain callables."""
