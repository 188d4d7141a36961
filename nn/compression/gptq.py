"""GPTQ: rounding weights so that what a layer computes changes least (Frantar et al. 2023, arXiv:2210.17323).

Rounding every weight to the nearest value is best for the weights, not for the outputs W x. The error of the outputs is
quadratic in that of the weights, with H = sum(x x^T) over the inputs that really occur. So the columns are rounded one
after another, and what a rounding does to the outputs is made up for by the columns that are still free: their best
correction is -error / U_jj * U_j, with U the upper Cholesky factor of H's inverse (Optimal Brain Surgeon's formula).
"""

from collections.abc import Sequence

import numpy as np

from nn.compression.integers import decode, encode, find_range
from nn.module import Module
from nn.watch import observe
from tinytensor import backend

BLOCK = 128  # columns corrected one by one; those behind them get all corrections of a block in one product
DAMPING = 0.01  # times H's mean diagonal, added to it: inputs that hardly vary would ask for wild corrections


def gptq(weight, products, group: int | None, scale, zero, *how) -> tuple:
    """(codes (M, K) int8, scale, zero_point) of a NumPy weight (M, K) whose inputs have the sums of products (K', K').

    K' < K columns have inputs; those behind are padding.   scale, zero: (M, 1) or (1, 1), of all columns. With a group,
    so many columns share a scale, which is found from their corrected weights when the first comes up.   how: bits,
    symmetric and ranges, see integers.py.
    """
    W = weight.astype(np.float64)
    M, K = W.shape
    U = _factor(products, K)
    codes = np.empty((M, K), np.int8)
    scales, zeros = [], []
    for start in range(0, K, BLOCK):
        stop = min(start + BLOCK, K)
        errors = np.empty((M, stop - start))
        for j in range(start, stop):
            if group and j % group == 0:
                scale, zero = find_range(W[:, j : j + group].astype(np.float32), *how)
                scales.append(scale)
                zeros.append(zero)
            codes[:, j] = encode(W[:, j : j + 1].astype(np.float32), scale, zero, *how[:2])[:, 0]
            error = (W[:, j] - decode(codes[:, j : j + 1], scale, zero)[:, 0]) / U[j, j]
            W[:, j + 1 : stop] -= np.outer(error, U[j, j + 1 : stop])
            errors[:, j - start] = error
        W[:, stop:] -= errors @ U[start:stop, stop:]
    return (codes, np.concatenate(scales, axis=1), np.concatenate(zeros, axis=1)) if group else (codes, scale, zero)


def _factor(products: np.ndarray, K: int) -> np.ndarray:
    """U with U^T U = H^-1, upper triangular; inputs that never differ from 0 get a 1 on H's diagonal."""
    H = np.zeros((K, K))
    H[: len(products), : len(products)] = products
    diagonal = np.diag_indices(K)
    H[diagonal] = np.where(H[diagonal] == 0, 1, H[diagonal] + DAMPING * H[diagonal].mean())
    return np.linalg.cholesky(np.linalg.inv(H)).T


def input_products(model: Module, layers: list[Module], batches: Sequence[dict]) -> dict[int, np.ndarray]:
    """id(layer) -> sum of x x^T over all inputs x that came into it."""
    found = {id(layer): np.zeros((layer.weight.shape[1],) * 2) for layer in layers}

    def see(layer: Module, arguments: tuple, result) -> None:
        x = arguments[0].data.reshape(-1, arguments[0].shape[-1])
        found[id(layer)] += backend.to_numpy(x.T @ x)

    observe(model, batches, layers, see)
    return found
