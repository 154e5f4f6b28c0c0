"""The command line: `pullback serve`, `pullback eval "x**2" x=3`, `pullback ops`.

Each command imports what it needs when it runs, so that evaluating does not wait for a web server to load.
"""

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from app import __version__
from app.limit_settings import explained
from engine.core import AutogradError, NotDifferentiableError, ProgramSyntaxError

if TYPE_CHECKING:
    from app.programs import ProgramLimits
    from engine.programs import CheckedEvaluation, Evaluation

USAGE_ERROR = 2
#: As much of a long line is shown before the place of an error.
SHOWN_BEFORE = 60
SHOWN = 100
CURL_BODY = '{"expr": "square(exp(square(x)))", "inputs": {"x": 0.5}, "backward": true}'


class CommandError(Exception):
    """A command that cannot be carried out; its text is for the user."""


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, as all other errors."""

    def error(self, message: str) -> NoReturn:
        raise CommandError(f"{message} (see {self.prog} --help)")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command and returns its exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        given = _parser().parse_args(_options_first(words))
        code: int = given.command(given) or 0
        sys.stdout.flush()
    except AutogradError as error:
        print(f"pullback: {explained(error)[0]}", file=sys.stderr)
        return USAGE_ERROR
    except CommandError as error:
        print(f"pullback: {error}", file=sys.stderr)
        return USAGE_ERROR
    except BrokenPipeError:
        # Whoever read our output has stopped; Python would complain once more while it closes.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    return code


def _parser() -> argparse.ArgumentParser:
    parser = _Parser("pullback", description="Autograd as a service: values and gradients of programs.")
    parser.add_argument("--version", action="version", version=f"pullback {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    serve = commands.add_parser("serve", help="start the server", description="Start the server.")
    serve.add_argument("--host", help="address to listen on (PULLBACK_HOST, 127.0.0.1)")
    serve.add_argument("--port", help="port to listen on; 0 takes a free one (PULLBACK_PORT, 8000)")
    serve.add_argument("--workers", help="processes (PULLBACK_WORKERS, 1)")
    serve.add_argument("--insecure", action="store_const", const="1", help="listen on more than loopback without keys")
    serve.set_defaults(command=_serve)

    evaluate = commands.add_parser(
        "eval", help="evaluate an expression and its gradients", description="Evaluate an expression and its gradients."
    )
    evaluate.add_argument("expr", help='infix text, such as "0.26*(x**2+y**2) - 0.48*x*y"')
    evaluate.add_argument("inputs", nargs="*", metavar="NAME=VALUE", help="an input; the value is JSON: x=1, x=[1,2]")
    evaluate.add_argument("--wrt", action="append", metavar="NAME", help="differentiate with respect to this alone")
    evaluate.add_argument("--order", type=int, default=1, metavar="N", help="how often to differentiate, by one input")
    evaluate.add_argument("--json", action="store_true", help="print a document as the server would answer")
    evaluate.add_argument("--plan", action="store_true", help="print the code that is run, and nothing else")
    evaluate.set_defaults(command=_eval)

    dot = commands.add_parser(
        "dot",
        help="draw an expression or its derivative as DOT text",
        description="Draw an expression or its n-th derivative as DOT text; inputs count as scalars.",
    )
    dot.add_argument("expr", help='infix text, such as "x**3"')
    dot.add_argument("--order", type=int, default=0, metavar="N", help="of which derivative; 0: the expression itself")
    dot.add_argument("--wrt", metavar="NAME", help="differentiate by this input alone")
    dot.set_defaults(command=_dot)

    ops = commands.add_parser("ops", help="list the operations", description="List the operations, or show one.")
    ops.add_argument("name", nargs="?", metavar="NAME")
    ops.set_defaults(command=_ops)

    sessions = commands.add_parser(
        "sessions",
        help="look at the sessions in the store",
        description="Look at the sessions that a server keeps in its store, which PULLBACK_DATA_DIR names.",
    )
    doing = sessions.add_subparsers(required=True, metavar="ACTION", dest="action")
    doing.add_parser("list", help="a line for each")
    for action, about in (
        ("show", "the content of one"),
        ("export", "values, gradients and states of one as JSON, in base64"),
        ("delete", "forget one"),
    ):
        doing.add_parser(action, help=about).add_argument(
            "key", metavar="HANDLE", help="as the list and the server's log show it, or its beginning; or an id"
        )
    sessions.set_defaults(command=_sessions)

    backup = commands.add_parser(
        "backup",
        help="copy the store to a file",
        description="Copy programs and sessions to a new file, also while a server uses them (SQLite only).",
    )
    backup.add_argument("file", metavar="FILE", help="the file to make")
    backup.set_defaults(command=_backup)

    restore = commands.add_parser(
        "restore",
        help="put a backup in the place of the store",
        description="Put a backup in the place of the store, while no server uses that (SQLite only).",
    )
    restore.add_argument("file", metavar="FILE", help="a file that `pullback backup` made")
    restore.add_argument("--force", action="store_true", help="replace a store that exists or that a server has open")
    restore.set_defaults(command=_restore)

    doctor = commands.add_parser(
        "doctor",
        help="look for faults in the store",
        description="Print a line for each fault of the store, or of a backup; the exit code is 1 if there are any.",
    )
    doctor.add_argument("file", nargs="?", metavar="FILE", help="a file that `pullback backup` made")
    doctor.set_defaults(command=_doctor)

    _add_keys(commands)

    settings = commands.add_parser(
        "settings", help="list the server's settings", description="List the server's settings and what they are now."
    )
    settings.set_defaults(command=_settings)
    return parser


def _add_keys(commands: Any) -> None:
    keys = commands.add_parser(
        "keys",
        help="make, list and revoke API keys",
        description="Make, list and revoke the keys of the store that a server uses. Once there has been one, every "
        "request needs a key.",
    )
    doing = keys.add_subparsers(required=True, metavar="ACTION", dest="action")
    create = doing.add_parser("create", help="make a key and print it, once", description="Make a key and print it.")
    create.add_argument("name", metavar="NAME", help="whose key it is, for people")
    create.add_argument(
        "--scopes",
        default="evaluate,programs,sessions,jobs",
        help="what it may do, separated by commas: evaluate, programs, sessions, jobs; admin: all of it, /metrics, and "
        "looking at and deleting what others own (default: %(default)s)",
    )
    number = {"type": float, "metavar": "N"}
    create.add_argument("--rate", **number, help="work units a second; a unit is a millisecond of processor time")
    create.add_argument("--burst", **number, help="units that may be used at once (default: those of a second)")
    create.add_argument("--bytes-rate", **number, help="bytes a second, of requests and responses together")
    count = {"type": int, "metavar": "N"}
    create.add_argument("--max-programs", **count, help="registered programs")
    create.add_argument("--max-sessions", **count, help="sessions at a time")
    create.add_argument("--max-session-bytes", **count, help="bytes of all its sessions")
    doing.add_parser("list", help="a line for each key, the revoked ones too")
    doing.add_parser("revoke", help="let a key hold no more").add_argument("id", metavar="ID", help="such as k_0123...")
    rotate = doing.add_parser("rotate", help="give a key a new secret, and print it; what it owns stays its own")
    rotate.add_argument("id", metavar="ID", help="such as k_0123...")
    rotate.add_argument(
        "--grace", type=float, default=3600.0, metavar="S", help="seconds for which the old secret holds (%(default)g)"
    )
    keys.set_defaults(command=_keys)


def _options_first(words: list[str]) -> list[str]:
    """Puts options before the rest and closes them with `--`: `-x**2` is an expression and no option."""
    if words[:1] not in (["eval"], ["dot"]):
        return words
    options: list[str] = []
    rest: list[str] = []
    left = iter(words[1:])
    for word in left:
        name, equals, _ = word.partition("=")
        if word == "--":
            rest += left
        elif name in ("--wrt", "--order"):
            options += [word] if equals else [word, *islice(left, 1)]
        elif word in ("--json", "--plan", "--help", "-h"):
            options.append(word)
        else:
            rest.append(word)
    return [words[0], *options, "--", *rest]


def _serve(given: argparse.Namespace) -> None:
    from app import server

    flags = {name: getattr(given, name) for name in ("host", "port", "workers", "insecure")}
    try:
        server.serve({name: value for name, value in flags.items() if value is not None}, CURL_BODY)
    except server.ServeError as error:
        raise CommandError(str(error)) from None


def _eval(given: argparse.Namespace) -> None:
    from app.wire.values import dumps, encode_all

    try:
        prepared = _prepared(given)
        if given.plan:
            print(prepared.source, end="")
            return
        result = prepared.run()
    except AutogradError as error:
        raise CommandError(f"{explained(error)[0]}{_caret(error, given.expr)}") from None
    if given.json:
        document = {"values": encode_all(result.values, "nested")}
        if result.grads is not None:
            document["grads"] = encode_all(result.grads, "nested")
        if result.higher is not None:
            document["higher"] = encode_all(result.higher, "nested")
        print(dumps(document).decode())
    else:
        print("\n".join(_lines(result)))


def _prepared(given: argparse.Namespace) -> "CheckedEvaluation":
    """Values and, unless there are several outputs or one that has no gradient, gradients."""
    from app.programs import prepare, read

    source, inputs, limits = ("expr", given.expr), _inputs(given.inputs), _limits()
    if given.wrt or given.order != 1:
        options = {"wrt": given.wrt, "order": given.order}
        return prepare(source, inputs, backward=options, limits=limits)
    if len(read(source, limits).outputs) == 1:
        with suppress(NotDifferentiableError):
            return prepare(source, inputs, backward={}, limits=limits)
    return prepare(source, inputs, limits=limits)


def _dot(given: argparse.Namespace) -> None:
    from app.programs import read
    from engine.programs import picture

    limits = _limits()
    try:
        graph = read(("expr", given.expr), limits)
        print(picture.dot(picture.derivative(graph, given.order, given.wrt, limits.cost)))
    except AutogradError as error:
        raise CommandError(f"{explained(error)[0]}{_caret(error, given.expr)}") from None


def _lines(result: "Evaluation") -> list[str]:
    """Values and gradients for people: `out = 2.0`, `grad x = 1.0`."""
    from app.wire.values import dumps, encode

    named = [(name, value) for name, value in result.values.items()]
    named += [(f"grad {name}", grad) for name, grad in (result.grads or {}).items()]
    for name, found in (result.higher or {}).items():
        named += [(f"grad {name}, order {n}", grad) for n, grad in enumerate(found[1:], 2)]
    return [f"{name} = {dumps(encode(value, 'nested')).decode()}" for name, value in named]


def _limits() -> "ProgramLimits":
    """The server's limits: they keep a slip of the finger from filling the memory here as well."""
    from app.programs import ProgramLimits

    if not any(name.startswith("PULLBACK_MAX_") for name in os.environ):
        return ProgramLimits()
    from app.settings import SettingsError, load_settings

    try:
        return load_settings().program_limits()
    except SettingsError as error:
        raise CommandError(str(error)) from None


def _inputs(words: Sequence[str]) -> Mapping[str, Any]:
    from app.programs import ProgramLimits
    from app.wire.document import MalformedBodyError, parse

    found: dict[str, Any] = {}
    for word in words:
        name, equals, text = word.partition("=")
        if not equals:
            raise CommandError(f'"{word}" is no input; expected NAME=VALUE, such as x=1 or x=[1,2]')
        if name in found:
            raise CommandError(f'the input "{name}" is given twice')
        if text in ("NaN", "Infinity", "-Infinity"):
            found[name] = text
            continue
        try:
            found[name] = parse(text.encode("utf-8", "surrogateescape"), ProgramLimits().max_depth)
        except MalformedBodyError:
            raise CommandError(f"{name}={text}: the value is not JSON; expected such as 0.5, [1, 2] or true") from None
    return found


def _ops(given: argparse.Namespace) -> None:
    from app.programs.catalog import describe
    from engine.core import lookup, rows

    if given.name is None:
        width = max(len(op.signature()) for op in rows() if len(op.signature()) <= SHOWN_BEFORE)
        print("\n".join(f"{op.signature():{width}}  {op.doc}" for op in rows()))
        return
    about = describe(lookup(given.name))
    print(f"{about['signature']}\n{about['doc']}")
    for attribute in about["attributes"]:
        default = "required" if attribute["required"] else f"default {attribute['default']!r}"
        print(f"  {attribute['name']}: {attribute['expected']}; {default}")
    if about["aliases"]:
        print(f"also: {', '.join(about['aliases'])}")
    if not about["differentiable"]:
        print("not differentiable")


def _sessions(given: argparse.Namespace) -> None:
    from app.inspection import InspectionError, inspected
    from app.sessions.errors import SessionError
    from app.settings import SettingsError, load_settings
    from app.wire.values import dumps

    try:
        with inspected(load_settings()) as found:
            match given.action:
                case "list":
                    lines = found.lines()
                case "show":
                    lines = found.show(given.key)
                case "export":
                    lines = [dumps(found.export(given.key)).decode()]
                case _:
                    lines = [f"deleted {found.delete(given.key)}"]
    except (SettingsError, InspectionError, SessionError) as error:
        raise CommandError(str(error)) from None
    for line in lines:
        print(line)


def _backup(given: argparse.Namespace) -> None:
    from app import maintenance
    from app.settings import SettingsError, load_settings

    try:
        print(maintenance.backup(load_settings(), Path(given.file)))
    except (SettingsError, maintenance.MaintenanceError) as error:
        raise CommandError(str(error)) from None


def _restore(given: argparse.Namespace) -> None:
    from app import maintenance
    from app.settings import SettingsError, load_settings

    try:
        print(maintenance.restore(load_settings(), Path(given.file), force=given.force))
    except (SettingsError, maintenance.MaintenanceError) as error:
        raise CommandError(str(error)) from None


def _doctor(given: argparse.Namespace) -> int:
    from app.doctor import examine
    from app.maintenance import MaintenanceError
    from app.settings import SettingsError, load_settings

    count = 0
    try:
        for fault in examine(load_settings(), given.file and Path(given.file)):
            print(fault, flush=True)
            count += 1
    except (SettingsError, MaintenanceError) as error:
        raise CommandError(str(error)) from None
    if count == 0:
        print("no faults found")
    return min(count, 1)


def _keys(given: argparse.Namespace) -> None:
    from app.issuing import administered, line, place
    from app.keys.admin import KeyAdminError
    from app.settings import SettingsError, load_settings
    from app.stores.keys import Rates
    from app.stores.owners import Allowance

    try:
        settings = load_settings()
        with administered(settings, may_make=given.action == "create") as admin:
            match given.action:
                case "create":
                    scopes = [scope.strip() for scope in given.scopes.split(",") if scope.strip()]
                    rates = Rates(given.rate, given.burst, given.bytes_rate)
                    allowance = Allowance(given.max_programs, given.max_sessions, given.max_session_bytes)
                    lines = [admin.create(given.name, scopes, rates, allowance)]
                    print(f"pullback: the key is in {place(settings)}", file=sys.stderr)
                case "list":
                    lines = [line(record) for record in admin.records()]
                case "rotate":
                    lines = [admin.rotate(given.id, given.grace)]
                case _:
                    admin.revoke(given.id)
                    lines = [f"revoked {given.id}"]
    except (SettingsError, KeyAdminError) as error:
        raise CommandError(str(error)) from None
    for text in lines:
        print(text)


def _settings(given: argparse.Namespace) -> None:
    from app.settings import SettingsError, described, load_settings

    try:
        lines = [(f"{name}={value}", about) for name, value, about in described(load_settings())]
    except SettingsError as error:
        raise CommandError(str(error)) from None
    width = max(len(setting) for setting, _ in lines)
    print("\n".join(f"{setting:{width}}  {about}" for setting, about in lines))


def _caret(error: AutogradError, text: str) -> str:
    """The line that is wrong, and a caret under the place; nothing where the error has no place in the text."""
    match error.faults[0].loc:
        case ("expr", int(row), int(column)):
            line = text.split("\n")[row - 1]
        case _ if isinstance(error, ProgramSyntaxError):
            line, column = error.text, error.column
        case _:
            return ""
    start = max(0, column - 1 - SHOWN_BEFORE)
    shown = line.rstrip()[start : start + SHOWN]
    before = "".join("\t" if c == "\t" else " " for c in shown[: column - 1 - start])
    return f"\n  {shown}\n  {before}^" if shown.strip() else ""


if __name__ == "__main__":
    sys.exit(main())
