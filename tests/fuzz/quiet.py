"""Logs of the product in this process: there would be one a case."""

from __future__ import annotations

import logging
import warnings

import structlog


def quieten() -> None:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")  # numpy's, of numbers that are none
