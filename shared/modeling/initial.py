"""Starting values from the data: ψ and φ from an item-item SVD, biases from popularity."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix, diags
from scipy.sparse.linalg import svds

from shared.domain import FloatArray


class InitialRows(NamedTuple):
    """factors [N, dim], biases [N, 2] (next, like); float32."""

    factors: FloatArray
    biases: FloatArray


def initial_rows(
    users: NDArray[Any],
    items: NDArray[Any],
    liked: NDArray[np.bool_],
    *,
    num_users: int,
    num_items: int,
    dim: int,
) -> InitialRows:
    """From events (user, item, whether it was liked), [E] each, of training people."""
    counts = np.bincount(items, minlength=num_items).astype(np.float64)
    likes = np.bincount(items[liked], minlength=num_items).astype(np.float64)
    biases = np.stack([_log_popularity(counts), _log_popularity(likes)], axis=1)
    factors = cosine_factors(users, items, num_users=num_users, num_items=num_items, dim=dim)
    return InitialRows(factors, biases.astype(np.float32))


def cosine_factors(
    users: NDArray[Any], items: NDArray[Any], *, num_users: int, num_items: int, dim: int
) -> FloatArray:
    """F [num_items, dim] float32 with F Fᵀ ≈ the cosine between items' columns of users.

    A person of n events weighs 1/√n: one who has had everything says little of what is alike. The
    cosine matrix is RᵀR with columns of unit length, so its eigenvectors are R's right singular
    vectors and F = V·S. The sign of a column is fixed, so that the same data give the same F.
    """
    table = csr_matrix((np.ones(len(users)), (users, items)), shape=(num_users, num_items))
    table.data[:] = 1.0
    events = np.asarray(table.sum(axis=1)).ravel()
    table = diags(1.0 / np.sqrt(np.maximum(events, 1.0))) @ table
    norms = np.sqrt(np.asarray(table.power(2).sum(axis=0)).ravel())
    table = (table @ diags(1.0 / np.maximum(norms, 1e-12))).tocsr()
    rank = min(dim, min(table.shape))
    if rank == min(table.shape):  # all of them: too many for the sparse solver
        _, scales, right = np.linalg.svd(table.toarray(), full_matrices=False)
    else:
        _, scales, right = svds(table, k=rank, v0=np.ones(min(table.shape)), random_state=0)
    order = np.argsort(-scales)
    factors = right[order].T * scales[order]
    factors *= np.where(np.abs(factors).max(axis=0) == factors.max(axis=0), 1.0, -1.0)
    result = np.zeros((num_items, dim), np.float32)
    result[:, :rank] = factors
    return result


class ContentProjection(NamedTuple):
    """centre [content_dim], components [content_dim, rank]; float32."""

    centre: FloatArray
    components: FloatArray


def content_projection(content: FloatArray, rank: int) -> ContentProjection:
    """Principal components of the catalogue's content embeddings, half whitened.

    content: [N, content_dim]; rows of zeros (no content) do not count. Components beyond what the
    catalogue has are zeros. Projected content has a mean square of about 1 in its first places;
    weak components are raised, but noise is not blown up to their size.
    """
    some = content[np.any(content != 0.0, axis=1)].astype(np.float64)
    dim = content.shape[1]
    components = np.zeros((dim, rank))
    if not len(some):
        return ContentProjection(np.zeros(dim, np.float32), components.astype(np.float32))
    centre = some.mean(axis=0)
    variances, vectors = np.linalg.eigh(np.cov((some - centre).T, bias=True).reshape(dim, dim))
    order = np.argsort(-variances)[:rank]
    signs = np.sign(vectors[np.abs(vectors[:, order]).argmax(axis=0), order])
    scales = 1.0 / np.sqrt(np.maximum(variances[order], 0.0) + variances[order].mean() + 1e-9)
    components[:, : len(order)] = vectors[:, order] * signs * scales
    return ContentProjection(centre.astype(np.float32), components.astype(np.float32))


def _log_popularity(counts: NDArray[np.float64]) -> NDArray[np.float64]:
    smoothed = np.log(counts + 1.0)
    centred: NDArray[np.float64] = smoothed - smoothed.mean()
    return centred
