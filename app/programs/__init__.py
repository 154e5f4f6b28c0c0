"""Programs without HTTP: from a document to a result, and programs that are registered."""

from app.programs.service import (
    LARGEST_INTEGER,
    Find,
    Forecast,
    ProgramLimits,
    Source,
    decode,
    differentiate,
    infer,
    nowhere,
    prepare,
    read,
    read_bound,
)

__all__ = [
    "LARGEST_INTEGER",
    "Find",
    "Forecast",
    "ProgramLimits",
    "Source",
    "decode",
    "differentiate",
    "infer",
    "nowhere",
    "prepare",
    "read",
    "read_bound",
]
