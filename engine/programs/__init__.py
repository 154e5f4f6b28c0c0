"""Programs: read them from documents and infix text, check, differentiate and run them."""

from engine.programs import derivatives, picture
from engine.programs.binding import bind
from engine.programs.call import RunOptions, check_call
from engine.programs.declarations import declaration, declare_further
from engine.programs.document.build import build
from engine.programs.evaluate import HIGHEST_ORDER, Backward, CheckedEvaluation, Evaluation, prepare
from engine.programs.executable import CheckedProgram, Executable, ScalarFunction
from engine.programs.function import ProgramFunction
from engine.programs.gradient_check import Check, check
from engine.programs.identity import program_id
from engine.programs.interpreter import interpret
from engine.programs.literals import WORDS, decode_value, described, strong_value
from engine.programs.text.parser import parse
from engine.programs.text.write import as_document, as_text

__all__ = [
    "HIGHEST_ORDER",
    "WORDS",
    "Backward",
    "Check",
    "CheckedEvaluation",
    "CheckedProgram",
    "Evaluation",
    "Executable",
    "ProgramFunction",
    "RunOptions",
    "ScalarFunction",
    "as_document",
    "as_text",
    "bind",
    "build",
    "check",
    "check_call",
    "declaration",
    "declare_further",
    "decode_value",
    "derivatives",
    "described",
    "interpret",
    "parse",
    "picture",
    "prepare",
    "program_id",
    "strong_value",
]
