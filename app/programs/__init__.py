"""Programs without HTTP: requests checked until they can run, and registered programs."""

from app.programs.forecast import LARGEST_INTEGER, Forecast, infer
from app.programs.limits import ProgramLimits
from app.programs.parts import Find, Source, nowhere, read
from app.programs.service import differentiate, prepare, read_bound

__all__ = [
    "LARGEST_INTEGER",
    "Find",
    "Forecast",
    "ProgramLimits",
    "Source",
    "differentiate",
    "infer",
    "nowhere",
    "prepare",
    "read",
    "read_bound",
]
