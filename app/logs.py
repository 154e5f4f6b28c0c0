"""Where the log goes when nobody else has said so: one line an event on standard error."""

import logging


def configure() -> None:
    """Gives the server's loggers a handler, unless they or the root have one."""
    logger = logging.getLogger("pullback")
    if not logger.hasHandlers():
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)
