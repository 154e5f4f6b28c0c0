"""Reads a Dockerfile and carries it out below a folder, without Docker.

Knows what this project's Dockerfile uses and refuses the rest. Each stage has the folder `root` to itself while it is
built and is then put aside: the absolute paths in a virtual environment stay true when the next stage copies it.
"""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

# The folders of the image that the Dockerfile writes to; they are looked for, and made, below the root.
FOLDERS = re.compile(r"(?<![\w./:-])/(opt|src|data|usr/bin)\b")
OWNER = "10001"
BASE = re.compile(r"python:(3\.\d+)\.\d+-slim-[a-z]+(@sha256:[0-9a-f]{64})?")
# Stands in for Debian's packages: nothing is installed on the machine of who runs this.
APT_GET = """#!/bin/sh
case "$1" in
update) ;;
install) mkdir -p {bin} && ln -s {tini} {bin}/tini-static ;;
*) exit 1 ;;
esac
"""
# Does what tini does but for reaping, where it is not installed.
TINI = """#!/bin/sh
test "$1" = -- && shift && exec "$@"
"""


@dataclass(frozen=True, slots=True)
class Instruction:
    """One instruction, its continued lines joined: `RUN`, `pip install ...`."""

    name: str
    value: str


@dataclass(slots=True)
class Image:
    """What a finished Dockerfile says about running it, with paths below the root."""

    workdir: Path
    env: dict[str, str]
    user: str
    volumes: list[str]
    entrypoint: list[str]
    command: list[str]
    healthcheck: list[str]
    labels: dict[str, str] = field(default_factory=dict)
    stop_signal: str = "SIGTERM"

    def started_by(self) -> list[str]:
        """Return the words of the command that a container runs."""
        return self.entrypoint + self.command


def parse(text: str) -> list[Instruction]:
    """Return the instructions of a Dockerfile in order."""
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", " ", "\n".join(lines))
    return [Instruction(*line.split(maxsplit=1)) for line in joined.splitlines()]


def exec_form(value: str) -> list[str]:
    """Return the words of `CMD ["a", "b"]`; the shell form is refused, for no signal reaches what it starts."""
    words = json.loads(value)
    assert isinstance(words, list), value
    return words


def pip_environment() -> dict[str, str]:
    """Return what pip needs from the developer's environment to reach its index and its cache, and nothing else."""
    names = ("HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE")
    wanted = [
        name for name in os.environ if name in names or name.startswith("PIP_") or name.lower().endswith("_proxy")
    ]
    return {name: os.environ[name] for name in wanted}


@dataclass(slots=True)
class Builder:
    """Carries out the instructions of a Dockerfile one by one.

    context: the folder that COPY reads from. top: an empty folder for the stages.
    """

    context: Path
    top: Path
    finished: list[str] = field(default_factory=list)
    stage: str = ""
    image: Image | None = None
    arguments: dict[str, str] = field(default_factory=dict)

    @property
    def root(self) -> Path:
        """The file system of the stage that is being built."""
        return self.top / "root"

    def build(self, instructions: list[Instruction]) -> Image:
        """Build all stages and return the last."""
        for instruction in instructions:
            getattr(self, f"on_{instruction.name.lower()}")(self.below_root(instruction.value))
        assert self.image is not None
        return self.image

    def below_root(self, text: str) -> str:
        """Put the image's folders below the root, and what it owns into the hands of who runs this."""
        text = text.replace(f"-o {OWNER} -g {OWNER}", f"-o {os.getuid()} -g {os.getgid()}")
        return FOLDERS.sub(lambda match: f"{self.root}{match[0]}", text)

    def current(self) -> Image:
        assert self.image is not None, "FROM comes first"
        return self.image

    def on_from(self, value: str) -> None:
        base, *name = value.split(" AS ")
        assert BASE.fullmatch(base), base
        if self.image is not None:
            self.root.rename(self.top / self.stage)
            self.finished.append(self.stage)
        self.stage = name[0] if name else "last"
        # The base image: a shell's tools and a `python`.
        binaries = self.root / "usr" / "local" / "bin"
        binaries.mkdir(parents=True)
        python = binaries / "python"
        python.write_text(f'#!/bin/sh\nexec {shlex.quote(base_interpreter())} "$@"\n')
        python.chmod(0o755)
        apt_get, tini = binaries / "apt-get", binaries / "some-tini"
        tini.write_text(TINI)
        apt_get.write_text(APT_GET.format(bin=self.root / "usr" / "bin", tini=shutil.which("tini-static") or tini))
        for program in (tini, apt_get):
            program.chmod(0o755)
        self.image = Image(self.root, {"PATH": f"{binaries}:/usr/bin:/bin"}, "root", [], [], [], [])

    def on_arg(self, value: str) -> None:
        name, _, setting = value.partition("=")
        self.arguments[name] = setting

    def on_label(self, value: str) -> None:
        for word in shlex.split(value):
            name, _, text = word.partition("=")
            self.current().labels[name] = re.sub(r"\$(\w+)", lambda match: self.arguments[match[1]], text)

    def on_stopsignal(self, value: str) -> None:
        self.current().stop_signal = value

    def on_entrypoint(self, value: str) -> None:
        self.current().entrypoint = exec_form(value)

    def on_env(self, value: str) -> None:
        for word in shlex.split(value):
            name, _, setting = word.partition("=")
            self.current().env[name] = setting.replace("$PATH", self.current().env["PATH"])

    def on_workdir(self, value: str) -> None:
        Path(value).mkdir(parents=True, exist_ok=True)
        self.current().workdir = Path(value)

    def on_run(self, value: str) -> None:
        image = self.current()
        # Caches are folders of the builder's own; pip has one here too.
        value = re.sub(r"--mount=type=cache,\S+\s+", "", value)
        done = subprocess.run(
            ["/bin/sh", "-c", value],
            cwd=image.workdir,
            env={**pip_environment(), **image.env},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"RUN {value}\n{done.stdout}{done.stderr}"

    def on_copy(self, value: str) -> None:
        *sources, target = value.split()
        context, ignored = self.context, shutil.ignore_patterns("__pycache__")
        if sources[0].startswith("--from="):
            stage = sources.pop(0).removeprefix("--from=")
            assert stage in self.finished, stage
            context, ignored = self.top / stage, None
            sources = [str(Path(source).relative_to(self.root)) for source in sources]
        destination = self.current().workdir / target
        for source in sources:
            origin = context / source
            if origin.is_dir():
                shutil.copytree(origin, destination, symlinks=True, dirs_exist_ok=True, ignore=ignored)
            else:
                is_folder = target.endswith("/") or len(sources) > 1
                folder = destination if is_folder else destination.parent
                folder.mkdir(parents=True, exist_ok=True)
                shutil.copy2(origin, destination)

    def on_user(self, value: str) -> None:
        self.current().user = value

    def on_volume(self, value: str) -> None:
        self.current().volumes.append(value)

    def on_expose(self, value: str) -> None:
        assert value.isdigit(), value

    def on_healthcheck(self, value: str) -> None:
        self.current().healthcheck = exec_form(value.partition("CMD ")[2])

    def on_cmd(self, value: str) -> None:
        self.current().command = exec_form(value)


def base_interpreter() -> str:
    """Return the interpreter beneath this virtual environment."""
    return str(Path(sys.base_prefix) / "bin" / f"python3.{sys.version_info.minor}")
