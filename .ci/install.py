"""Makes a virtual environment from a hashed lock: `install.py .venv requirements.lock [--editable PROJECT ...]`.

Does nothing where the environment already is what the lock says. Several may run at once: one works, the others wait
for it. Only the standard library is needed, and a Python of 3.11 or newer.
"""

import argparse
import fcntl
import hashlib
import subprocess
import sys
import venv
from collections.abc import Sequence
from pathlib import Path


def main() -> int:
    """Bring the environment up to date and touch the stamp that the Makefile looks at."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("directory", type=Path)
    parser.add_argument("lock", type=Path)
    parser.add_argument("--editable", type=Path, nargs="+", default=[], help="projects to install too, in place")
    options = parser.parse_args()

    with options.lock.open("rb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            update(options.directory, options.lock, options.editable)
        except subprocess.CalledProcessError as error:
            print(f"{options.directory}: {error}", file=sys.stderr)
            return 1
    return 0


def update(directory: Path, lock: Path, projects: Sequence[Path]) -> None:
    """Do what the stamp says is still to be done, and stamp it.

    A changed lock makes the environment anew, so that nothing is left over; a changed pyproject.toml only installs the
    projects again.
    """
    stamp = directory / "installed-lock"
    wanted = {"lock": digest(lock)} | {f"project:{path}": digest(path / "pyproject.toml") for path in projects}
    found = read_stamp(stamp) if (directory / "bin" / "python").exists() else {}
    if found.get("lock") != wanted["lock"]:
        print(f"Making {directory} from {lock} (Python {sys.version.split()[0]}); this takes a minute.", flush=True)
        venv.create(directory, clear=True, symlinks=True, with_pip=True)
        pip(directory, "install", "--require-hashes", "--requirement", str(lock))
    if projects and found != wanted:
        editable = [argument for path in projects for argument in ("--editable", str(path))]
        pip(directory, "install", "--no-deps", "--no-build-isolation", *editable)
    stamp.write_text("".join(f"{key} {value}\n" for key, value in wanted.items()))


def read_stamp(stamp: Path) -> dict[str, str]:
    """Return what the environment was made from; empty where it was never finished."""
    return dict(line.split() for line in stamp.read_text().splitlines()) if stamp.exists() else {}


def digest(path: Path) -> str:
    """Return the SHA-256 of a file's content: a checkout changes times, not contents."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def pip(directory: Path, *arguments: str) -> None:
    """Run the environment's own pip, quietly and without questions."""
    quiet = ["--quiet", "--disable-pip-version-check", "--no-input"]
    subprocess.run([directory / "bin" / "python", "-m", "pip", *arguments, *quiet], check=True)


if __name__ == "__main__":
    sys.exit(main())
