"""Build hook: files that are links to the engine's files go into the sdist with their contents, as into the wheel."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

PACKAGE = Path("src", "pullback")


class LinkedFiles(BuildHookInterface):  # type: ignore[type-arg]
    """Check the links, and give the sdist the files that they lead to. An unpacked sdist has no links."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Include the target of each link in its place; a wheel reads through links by itself.

        Raises:
            ValueError: a link leads nowhere, or the checkout has text files in place of links.
        """
        root = Path(self.root)
        for path in sorted((root / PACKAGE).rglob("*.py")):
            name = path.relative_to(root)
            if path.is_symlink():
                if not path.exists():
                    raise ValueError(
                        f"{name} is a link to {path.readlink()}, which does not exist; build in a checkout"
                    )
                if self.target_name == "sdist":
                    build_data["force_include"][str(path.resolve())] = name.as_posix()
            elif path.read_text(encoding="utf-8").startswith("../"):
                raise ValueError(
                    f"{name} should be a symbolic link and is a text file: there are no symbolic links here, as in zip "
                    "archives. Build from the sdist, a tar archive or a clone (on Windows with the developer mode and "
                    "`git config core.symlinks true`)"
                )
