"""Structured logs: one JSON object a line, never prompt text, keys or bodies."""

import logging

import structlog


def configure_logging(level: str) -> None:
    """Configure structlog and the standard library's loggers alike; call once, from a composition root."""
    logging.basicConfig(level=level.upper(), format="%(message)s")
    processors: list[structlog.typing.Processor] = [
        structlog.stdlib.filter_by_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.dict_tracebacks,
        structlog.processors.JSONRenderer(),
    ]
    structlog.configure(
        processors=processors,
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
