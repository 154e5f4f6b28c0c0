"""Ask servers, without and with keys, all that their OpenAPI document allows: `make schema`.

Arguments are passed on to schemathesis: `make schema ARGS="--seed 7 --max-time 600"`.
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tests.app.conftest import ROOT, Server, environment, start_server

SCHEMATHESIS = ROOT / "tools" / ".venv" / "bin" / "schemathesis"
CONFIG = ROOT / "tests" / "schema" / "schemathesis.toml"
#: Of options that are given twice, the last counts.
DEFAULTS = ("--seed", "1", "--max-time", "90", "--continue-on-failure")
ALL_SCOPES = "evaluate,programs,sessions,admin"


def make_key(folder: Path) -> str:
    """Make a key in the store of the server in `folder`."""
    command = [sys.executable, "-m", "app.cli", "keys", "create", "schemathesis", "--scopes", ALL_SCOPES]
    env = environment(data_dir=str(folder / "data"))
    return subprocess.run(command, cwd=ROOT, env=env, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()


def run(server: Server, folder: Path, key: str, arguments: list[str]) -> int:
    """Run schemathesis against a server; return its exit code.

    key: of the server; empty where it has none.
    """
    document = server.client.get("/openapi.json").json()
    options = [*DEFAULTS, "--url", server.base_url]
    if key:
        options += ["--header", f"Authorization: Bearer {key}"]
        # The document says that a server may have no keys. This one has.
        for methods in document["paths"].values():
            for route in methods.values():
                route["security"] = [way for way in route.get("security", ()) if way]
    location = folder / "openapi.json"
    location.write_text(json.dumps(document))
    command = [str(SCHEMATHESIS), "--config-file", str(CONFIG), "run", str(location), *options, *arguments]
    return subprocess.run(command, cwd=ROOT, check=False).returncode


def main(arguments: list[str], kinds: Sequence[bool] = (False, True)) -> int:
    """Return 0 if no check failed; `kinds` says of each server whether it has keys."""
    codes = []
    for has_keys in kinds:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            key = make_key(folder) if has_keys else ""
            print(f"A server {'with' if has_keys else 'without'} keys:", flush=True)
            with start_server(folder) as server:
                codes.append(run(server, folder, key, arguments))
    return max(codes)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
