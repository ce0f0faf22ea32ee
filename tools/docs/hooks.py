"""Files of the repository as pages of the site, so that nothing is written twice.

A page links to a file as it lies in the repository, such as ../../../egs/cifar/RESULTS.md. Each file that is linked
becomes part of the site, under its own path: Markdown as a page, all others as they are. Links to folders become text.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[2]
PAGES = ROOT / "tools" / "docs" / "pages"
START = {ROOT / "README.md": PAGES / "index.md"}  # what a link to the repository's own README means here
LINK = re.compile(r"(!?)\[([^\]]*)\]\((?!https?:|mailto:|#)([^)#\s]+)(#[^)]*)?\)")


def target_of(link: str, source: Path) -> Path:
    path = Path(os.path.normpath(source.parent / link))
    return START.get(path, path)


def place_of(path: Path) -> str:
    """Where a file lies in the site's sources."""
    return path.relative_to(PAGES if path.is_relative_to(PAGES) else ROOT).as_posix()


def on_files(files: Files, config: Any) -> Files:
    """Adds what the pages and the navigation link to, and what those files link to."""
    known = {Path(file.abs_src_path) for file in files}
    wanted = [path for path in known if path.suffix == ".md"]
    for path in (ROOT / "utils/README.md", ROOT / "tools/bench/RESULTS.md"):
        _add(path, known, wanted, files, config)
    while wanted:
        source = wanted.pop()
        for match in LINK.finditer(source.read_text()):
            _add(target_of(match[3], source), known, wanted, files, config)
    return files


def _add(path: Path, known: set[Path], wanted: list[Path], files: Files, config: Any) -> None:
    if path in known or not path.is_file() or not path.is_relative_to(ROOT):
        return
    known.add(path)
    root = str(ROOT)
    files.append(File(place_of(path), root, config.site_dir, config.use_directory_urls))
    if path.suffix == ".md":
        wanted.append(path)


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Links as they are in the repository -> links of the site."""
    source = Path(page.file.abs_src_path)

    def rewritten(match: re.Match[str]) -> str:
        image, text, link, anchor = match.groups()
        target = target_of(link, source)
        if target.is_dir():
            return text
        if not target.is_relative_to(ROOT):
            return match[0]
        here = os.path.relpath(place_of(target), Path(place_of(source)).parent)
        return f"{image}[{text}]({here}{anchor or ''})"

    return LINK.sub(rewritten, markdown)
