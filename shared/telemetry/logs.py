"""Structured logs on standard error: one event a line, for people or as JSON."""

from __future__ import annotations

import logging
import sys
from typing import TextIO, cast

import structlog

from shared.telemetry.hiding import Hiding

Logger = structlog.typing.FilteringBoundLogger


def configure(
    service: str,
    *,
    level: str = "info",
    format: str = "console",
    secret: str = "",
    out: TextIO | None = None,
) -> None:
    """Sets logging up for this process. level: debug, info, warning or error; format: console or json.

    secret: keys the pseudonyms of people, see `shared.telemetry.hiding`; "" = a random one.
    The standard library's loggers (of the libraries we use) come out in the same shape.
    """
    stream = out or sys.stderr
    least = logging.getLevelNamesMapping()[level.upper()]
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    renderer: structlog.typing.Processor
    # Tracebacks without locals: they could hold what people did.
    if format == "json":
        frames = structlog.tracebacks.ExceptionDictTransformer(show_locals=False)
        shared += [structlog.processors.ExceptionRenderer(frames)]
        renderer = structlog.processors.JSONRenderer()
    else:
        shared += [structlog.processors.format_exc_info]
        renderer = structlog.dev.ConsoleRenderer(
            colors=stream.isatty(), exception_formatter=structlog.dev.plain_traceback
        )
    shared += [Hiding.by(secret)]
    structlog.configure(
        processors=[*shared, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(least),
        logger_factory=structlog.WriteLoggerFactory(stream),
        cache_logger_on_first_use=True,
    )
    structlog.contextvars.bind_contextvars(service=service)
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    logging.basicConfig(handlers=[handler], level=max(least, logging.WARNING), force=True)


def logger(name: str) -> Logger:
    """A logger whose lines carry `part=name` and, while a request is served, its `request_id`."""
    return cast(Logger, structlog.get_logger(part=name))
