"""The versions and the commit that a result was made with."""

from __future__ import annotations

import platform
import subprocess
from importlib import metadata
from pathlib import Path

from irl.core.version import __version__


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that results depend on; a package that is not installed is left out."""
    found = {"irl": __version__, "python": platform.python_version()}
    for name in ("torch", "numpy", "espnet", "lightning-fabric"):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            pass
    return found


def commit() -> str:
    """The commit of the working tree, or "unknown" outside a checkout; with -dirty if tracked files differ from it,
    other than what runs and people write about them: results and Markdown."""

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(Path(__file__).parents[2]), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    changed = ("status", "--porcelain", "--untracked-files=no", "--", ".", ":!*/results/*", ":!*.md")
    try:
        return git("rev-parse", "--short", "HEAD") + ("-dirty" if git(*changed) else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
