"""The passes of :mod:`~napari_metaqsm.operators.gradient` compiled for the CPU, on all threads.

``scale`` holds one over the voxel's sides, in the type of the arrays; results are written to ``out``.
"""

import numba
import numpy as np

from napari_metaqsm.operators.compiled import compiled


@compiled(parallel=True)
def gradient(x, out, scale, periodic):
    ni, nj, nk = x.shape
    for plane in numba.prange(ni):
        i = np.intp(plane)  # unsigned as it comes, and less one it would turn into a float
        next_i = i + 1 if i + 1 < ni else (0 if periodic else i)
        for j in range(nj):
            next_j = j + 1 if j + 1 < nj else (0 if periodic else j)
            for k in range(nk - 1):
                here = x[i, j, k]
                out[0, i, j, k] = (x[next_i, j, k] - here) * scale[0]
                out[1, i, j, k] = (x[i, next_j, k] - here) * scale[1]
                out[2, i, j, k] = (x[i, j, k + 1] - here) * scale[2]
            k = nk - 1
            here = x[i, j, k]
            out[0, i, j, k] = (x[next_i, j, k] - here) * scale[0]
            out[1, i, j, k] = (x[i, next_j, k] - here) * scale[1]
            out[2, i, j, k] = (x[i, j, 0] - here) * scale[2] if periodic else 0


@compiled(parallel=True)
def gradient_adjoint(g, out, scale, periodic):
    ni, nj, nk = out.shape
    for plane in numba.prange(ni):
        i = np.intp(plane)  # unsigned as it comes, and less one it would turn into a float
        # Where there is no neighbour before, or none after, that difference counts nothing.
        before_i = i - 1 if i > 0 else ni - 1
        from_i = scale[0] * (periodic or i > 0)
        to_i = scale[0] * (periodic or i + 1 < ni)
        for j in range(nj):
            before_j = j - 1 if j > 0 else nj - 1
            from_j = scale[1] * (periodic or j > 0)
            to_j = scale[1] * (periodic or j + 1 < nj)
            for k in range(nk):
                before_k = k - 1 if k > 0 else nk - 1
                from_k = scale[2] * (periodic or k > 0)
                to_k = scale[2] * (periodic or k + 1 < nk)
                out[i, j, k] = (
                    from_i * g[0, before_i, j, k]
                    - to_i * g[0, i, j, k]
                    + from_j * g[1, i, before_j, k]
                    - to_j * g[1, i, j, k]
                    + from_k * g[2, i, j, before_k]
                    - to_k * g[2, i, j, k]
                )


@compiled(parallel=True)
def weighted_adjoint(g, w, out, scale):
    ni, nj, nk = out.shape
    for plane in numba.prange(ni):
        i = np.intp(plane)  # unsigned as it comes, and less one it would turn into a float
        # Where there is no neighbour before, or none after, that difference counts nothing.
        before_i = i - 1 if i > 0 else ni - 1
        from_i = scale[0] * (i > 0)
        to_i = scale[0] * (i + 1 < ni)
        for j in range(nj):
            before_j = j - 1 if j > 0 else nj - 1
            from_j = scale[1] * (j > 0)
            to_j = scale[1] * (j + 1 < nj)
            for k in range(nk):
                before_k = k - 1 if k > 0 else nk - 1
                from_k = scale[2] * (k > 0)
                to_k = scale[2] * (k + 1 < nk)
                out[i, j, k] = (
                    from_i * w[0, before_i, j, k] * g[0, before_i, j, k]
                    - to_i * w[0, i, j, k] * g[0, i, j, k]
                    + from_j * w[1, i, before_j, k] * g[1, i, before_j, k]
                    - to_j * w[1, i, j, k] * g[1, i, j, k]
                    + from_k * w[2, i, j, before_k] * g[2, i, j, before_k]
                    - to_k * w[2, i, j, k] * g[2, i, j, k]
                )


@compiled(parallel=True)
def weighted_laplacian(x, w, out, scale, periodic):
    ni, nj, nk = x.shape
    si, sj, sk = scale[0] ** 2, scale[1] ** 2, scale[2] ** 2
    for plane in numba.prange(ni):
        i = np.intp(plane)  # unsigned as it comes, and less one it would turn into a float
        before_i = i - 1 if i > 0 else (ni - 1 if periodic else 0)
        after_i = i + 1 if i + 1 < ni else (0 if periodic else i)
        for j in range(nj):
            before_j = j - 1 if j > 0 else (nj - 1 if periodic else 0)
            after_j = j + 1 if j + 1 < nj else (0 if periodic else j)
            for k in range(nk):
                before_k = k - 1 if k > 0 else (nk - 1 if periodic else 0)
                after_k = k + 1 if k + 1 < nk else (0 if periodic else k)
                here = x[i, j, k]
                out[i, j, k] = (
                    si
                    * (
                        w[0, before_i, j, k] * (here - x[before_i, j, k])
                        + w[0, i, j, k] * (here - x[after_i, j, k])
                    )
                    + sj
                    * (
                        w[1, i, before_j, k] * (here - x[i, before_j, k])
                        + w[1, i, j, k] * (here - x[i, after_j, k])
                    )
                    + sk
                    * (
                        w[2, i, j, before_k] * (here - x[i, j, before_k])
                        + w[2, i, j, k] * (here - x[i, j, after_k])
                    )
                )
