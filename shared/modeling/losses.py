"""Losses by task: softmax over the catalogue or over a sample of it with the logQ correction (`next`),
sigmoid over the same (`like`), squared error (`rating`)."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

Tensor = Any
_MASKED = -1e9
# Positions whose logits are in memory at once.
_CHUNK = 512


def softmax_loss(logits: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    """Weighted mean over positions of −log softmax(logits)[target].

    logits [P, M]; targets [P] int32, columns of the logits; weights [P] ≥ 0. A scalar; 0 where all
    weights are 0.
    """
    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=targets, logits=logits)
    return tf.math.divide_no_nan(tf.reduce_sum(losses * weights), tf.reduce_sum(weights))


def catalogue_loss(
    queries: Tensor, values: Tensor, biases: Tensor, targets: Tensor, weights: Tensor, *, chunk: int = _CHUNK
) -> Tensor:
    """`softmax_loss` of queries · valuesᵀ + biases, and its gradients, without ever holding all logits.

    queries [P, D]; values [M, D]; biases [M]; targets [P] int32, rows of values; weights [P] ≥ 0, constants.
    P must be known when it is traced. Each chunk of positions gives its loss and its gradients in one pass
    (as in Wijmans et al., 2025, "Cut Your Losses in Large-Vocabulary Language Models"), so memory is
    O(chunk · M); 512 positions stay in a core's cache and took 60% of the time of one matrix of 8,192 by
    3,883.
    """
    total = tf.reduce_sum(weights)

    @tf.custom_gradient
    def loss(queries: Tensor, values: Tensor, biases: Tensor) -> tuple[Tensor, Any]:
        found: list[tuple[Tensor, ...]] = []
        for start in range(0, queries.shape[0], chunk):
            part = slice(start, start + chunk)
            logits = tf.matmul(queries[part], values, transpose_b=True) + biases
            # The operation hands out the gradient that it computes anyway.
            losses, errors = tf.raw_ops.SparseSoftmaxCrossEntropyWithLogits(
                features=logits, labels=targets[part]
            )
            shares = tf.math.divide_no_nan(weights[part], total)
            errors *= shares[:, None]
            found.append(
                (
                    tf.reduce_sum(losses * shares),
                    tf.matmul(errors, values),
                    tf.matmul(errors, queries[part], transpose_a=True),
                    tf.reduce_sum(errors, axis=0),
                )
            )
        values_of, of_queries, of_values, of_biases = zip(*found, strict=True)

        def gradient(upstream: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            return (
                upstream * tf.concat(of_queries, axis=0),
                upstream * tf.add_n(of_values),
                upstream * tf.add_n(of_biases),
            )

        return tf.add_n(values_of), gradient

    return loss(queries, values, biases)


def set_loss(logits: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    """The same where a row has several targets. logits [B, M]; targets, weights [B, Q].

    −Σ_q w_q log softmax(logits)[target_q] / Σ w: the log-likelihood of Q independent draws.
    """
    normaliser = tf.reduce_logsumexp(logits, axis=1, keepdims=True)
    losses = normaliser - tf.gather(logits, targets, batch_dims=1)
    return tf.math.divide_no_nan(tf.reduce_sum(losses * weights), tf.reduce_sum(weights))


def sigmoid_loss(logits: Tensor, targets: Tensor, weights: Tensor, copies: Tensor) -> Tensor:
    """Binary cross-entropy of every item of every row, per target: −Σ [y log σ(z) + (1 − y) log(1 − σ(z))] /
    Σ w.

    logits z [B, M]; targets [B, Q] int32, the columns where y = w, 0 elsewhere; weights w [B, Q], 0 or 1;
    copies [B, M] ≥ 0: how many items a column stands for (0 = out, 1/q for one drawn with probability q).
    A scalar; 0 where there are no targets at all.
    """
    # −log(1 − σ(z)) = softplus(z), and −log σ(z) is less than that by z.
    hits = tf.reduce_sum(tf.gather(logits, targets, batch_dims=1) * weights)
    return tf.math.divide_no_nan(
        tf.reduce_sum(tf.math.softplus(logits) * copies) - hits, tf.reduce_sum(weights)
    )


def squared_loss(values: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    """Weighted mean of (value − target)². All of one shape; a scalar, 0 where all weights are 0."""
    errors = tf.square(values - targets) * weights
    return tf.math.divide_no_nan(tf.reduce_sum(errors), tf.reduce_sum(weights))


def correct(logits: Tensor, log_q: Tensor) -> Tensor:
    """Takes each column's log sampling probability off (Bengio & Senécal, 2008). log_q: [M]."""
    return logits - log_q


def exclude(logits: Tensor, excluded: Tensor) -> Tensor:
    """Takes items out of a row's softmax. logits, excluded [B, M]; excluded: 1 = out."""
    return logits + _MASKED * tf.cast(excluded, logits.dtype)
