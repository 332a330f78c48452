"""Softmax losses over the whole catalogue, or over a sample of it with the logQ correction."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

Tensor = Any
_MASKED = -1e9


def softmax_loss(logits: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    """Weighted mean over positions of −log softmax(logits)[target].

    logits [P, M]; targets [P] int32, columns of the logits; weights [P] ≥ 0. A scalar; 0 where all
    weights are 0.
    """
    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=targets, logits=logits)
    return tf.math.divide_no_nan(tf.reduce_sum(losses * weights), tf.reduce_sum(weights))


def set_loss(logits: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    """The same where a row has several targets. logits [B, M]; targets, weights [B, Q].

    −Σ_q w_q log softmax(logits)[target_q] / Σ w: the log-likelihood of Q independent draws.
    """
    normaliser = tf.reduce_logsumexp(logits, axis=1, keepdims=True)
    losses = normaliser - tf.gather(logits, targets, batch_dims=1)
    return tf.math.divide_no_nan(tf.reduce_sum(losses * weights), tf.reduce_sum(weights))


def correct(logits: Tensor, log_q: Tensor) -> Tensor:
    """Takes each column's log sampling probability off (Bengio & Senécal, 2008). log_q: [M]."""
    return logits - log_q


def exclude(logits: Tensor, excluded: Tensor) -> Tensor:
    """Takes items out of a row's softmax. logits, excluded [B, M]; excluded: 1 = out."""
    return logits + _MASKED * tf.cast(excluded, logits.dtype)
