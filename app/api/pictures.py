"""Pictures as answers: DOT text, and what Graphviz draws from it."""

from fastapi.responses import Response


class DotResponse(Response):
    """DOT text."""

    media_type = "text/vnd.graphviz"


class SvgResponse(Response):
    """A drawing."""

    media_type = "image/svg+xml"
