"""Pins the images of the Dockerfile and of docker-compose.yml by digest: `name:version@sha256:...`.

A version says which release an image is; its digest says which build, so that nobody can put another one in its place.
Digests are asked of the registry by `crane`, or by Docker's `buildx` where that is not installed.
"""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parents[1]
FILES = ("Dockerfile", "docker-compose.yml")
#: An image with a version, and the digest that it may already have. The project's own image has no version.
_IMAGE = re.compile(r"^(FROM |\s+image: )([\w./-]+:[\w.-]+)(@sha256:[0-9a-f]{64})?(?=\s|$)", re.MULTILINE)
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


class PinError(Exception):
    """A digest cannot be had; its text is one readable line."""


def images(text: str) -> list[str]:
    """Return the images that a file names, in order, without digests."""
    return [match[2] for match in _IMAGE.finditer(text)]


def pinned(text: str, digest: Callable[[str], str]) -> str:
    """Return the text of a file with the digest of each image."""
    return _IMAGE.sub(lambda match: f"{match[1]}{match[2]}@{digest(match[2])}", text)


def ask_registry(image: str) -> str:
    """Return the digest of an image, for all platforms that it is made for.

    Raises:
        PinError: no program that can ask is installed, or the registry does not answer.
    """
    if shutil.which("crane"):
        found = _output("crane", "digest", image).strip()
    elif shutil.which("docker"):
        manifest = _output("docker", "buildx", "imagetools", "inspect", image, "--format", "{{json .Manifest}}")
        found = json.loads(manifest)["digest"]
    else:
        raise PinError("crane is needed, or docker with buildx, and a network in which the registry can be reached")
    if not _DIGEST.fullmatch(found):
        raise PinError(f'the digest of {image} is "{found}"; expected sha256: and 64 hexadecimal digits')
    return found


def _output(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["no output"]
        raise PinError(f"{' '.join(command[:4])}: {lines[-1]}")
    return done.stdout


def main(root: Path = ROOT) -> int:
    """Pin the images of all files, or change none."""
    digests: dict[str, str] = {}
    texts = {root / name: (root / name).read_text() for name in FILES}
    try:
        for image in sorted({image for text in texts.values() for image in images(text)}):
            digests[image] = ask_registry(image)
            print(f"{image}@{digests[image]}")
    except PinError as error:
        print(f"make pin: {error}", file=sys.stderr)
        return 1
    for path, text in texts.items():
        path.write_text(pinned(text, digests.__getitem__))
    return 0


if __name__ == "__main__":
    sys.exit(main())
