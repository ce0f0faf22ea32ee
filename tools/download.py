"""Download and unpack free corpora: python tools/download.py DIR NAME ...

NAME is musan, rirs_noises, speechocean762, or a part of LibriSpeech such as train-clean-100. A download that was cut
off goes on where it stopped, a finished one is checked against its published MD5 sum, and what is unpacked is not
fetched again. Archives are removed once unpacked, unless --keep is given. --mirror URL takes them from another server
of OpenSLR's layout.
"""

from __future__ import annotations

import hashlib
import http.client
import shutil
import tarfile
import urllib.error
import urllib.request
import zipfile
from pathlib import Path
from typing import NamedTuple

from irl.core.arguments import Parser
from irl.core.errors import UserError, run_command
from irl.core.logging import logger, progress

MIRROR = "https://www.openslr.org/resources"
BLOCK = 1 << 20
TIMEOUT = 60  # seconds without a byte


class Archive(NamedTuple):
    """A file of OpenSLR: its path below a mirror, its MD5 sum as published there ("" for none), and the folder that it
    unpacks to."""

    path: str
    md5: str
    folder: str


CORPORA = {
    "musan": Archive("17/musan.tar.gz", "0c472d4fc0c5141eca47ad1ffeb2a7df", "musan"),
    # Without a published sum: its own is shown, to be compared with another's.
    "speechocean762": Archive("101/speechocean762.tar.gz", "", "speechocean762"),
    "rirs_noises": Archive("28/rirs_noises.zip", "e6f48e257286e05de56413b4779d8ffb", "RIRS_NOISES"),
    **{
        part: Archive(f"12/{part}.tar.gz", md5, f"LibriSpeech/{part}")
        for part, md5 in (
            ("dev-clean", "42e2234ba48799c1f50f24a7926300a1"),
            ("dev-other", "c8d0bcc9cca99d4f8b62fcc847357931"),
            ("test-clean", "32fa31d27d2e1cad72775fee3f4849a9"),
            ("test-other", "fb5a50374b501bb3bac4815ee91d3135"),
            ("train-clean-100", "2a93770f6d5c6c964bc36631d331a522"),
            ("train-clean-360", "c0e676e450a7ff2f54aeade5171606fa"),
            ("train-other-500", "d1a0fd59409feb2c614ce4d30c387708"),
        )
    },
}


def fetch(url: str, path: Path) -> None:
    """Bring `path` up to the whole of `url`; what is in it already is taken for its beginning."""
    have = _size(path)
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT) as answer:
            if answer.status != 206:
                have = 0  # a server that knows no ranges sends the whole again
            # A server may send a file without telling its length; then the checksum alone tells whether it is whole.
            length = answer.headers["Content-Length"] or ""
            total = have + int(length) if length.isdigit() else None
            with (
                open(path, "ab" if have else "wb") as file,
                progress(None, path.name, total=total, initial=have, unit="B", unit_scale=True) as bar,
            ):
                while block := answer.read(BLOCK):
                    file.write(block)
                    bar.update(len(block))
    except urllib.error.HTTPError as error:
        if error.code == 416 and have:
            return  # nothing is left to send; the checksum tells whether that is right
        raise UserError(f"{url}: the server answers {error.code} {error.reason}") from None
    except (OSError, http.client.HTTPException) as error:
        raise UserError(f"{url}: cut off after {_size(path)} bytes ({error}); run again to go on from there") from None
    if total is not None and _size(path) != total:
        raise UserError(f"{url}: cut off after {_size(path)} of {total} bytes; run again to go on from there")


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def check(path: Path, md5: str) -> None:
    """Compare with the published sum; a file that differs is removed, for no further download could mend it."""
    hashed = hashlib.md5(usedforsecurity=False)
    with (
        open(path, "rb") as file,
        progress(None, f"check {path.name}", total=_size(path), unit="B", unit_scale=True) as bar,
    ):
        while block := file.read(BLOCK):
            hashed.update(block)
            bar.update(len(block))
    if not md5:
        logger.info(f"{path}: MD5 sum {hashed.hexdigest()}; none is published to compare with")
    elif hashed.hexdigest() != md5:
        path.unlink()
        raise UserError(f"{path}: MD5 sum {hashed.hexdigest()}, published is {md5}; removed, run again")


def unpack(path: Path, folder: Path) -> None:
    """Into `folder`, without links or files that would lead out of it."""
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                for member in progress(archive.infolist(), f"unpack {path.name}", unit="file"):
                    archive.extract(member, folder)
        else:
            with tarfile.open(path) as tar:
                for entry in progress(tar, f"unpack {path.name}", unit="file"):
                    _extract(tar, entry, folder)
    except (tarfile.TarError, zipfile.BadZipFile, EOFError) as error:
        raise UserError(f"{path}: cannot be unpacked: {error}") from None


def _extract(tar: tarfile.TarFile, entry: tarfile.TarInfo, folder: Path) -> None:
    """A plain file or folder, with the user's own rights. (tarfile's filters came only with Python 3.11.4.)"""
    target = folder / entry.name
    if not target.resolve().is_relative_to(folder.resolve()) or not (entry.isfile() or entry.isdir()):
        raise tarfile.TarError(f"{entry.name} is no plain file below the folder")
    if entry.isdir():
        target.mkdir(parents=True, exist_ok=True)
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    content = tar.extractfile(entry)
    assert content is not None
    with open(target, "wb") as file:
        shutil.copyfileobj(content, file)


def get(name: str, folder: Path, mirror: str, keep: bool) -> None:
    archive = CORPORA[name]
    done = folder / f".{name}.unpacked"
    if done.exists() and (folder / archive.folder).is_dir():
        logger.info(f"{folder / archive.folder}: already there")
        return
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / Path(archive.path).name
    if not path.exists():
        partial = path.with_name(path.name + ".part")
        if partial.is_symlink():
            raise UserError(f"{partial}: a link; remove it, for the download would overwrite what it leads to")
        fetch(f"{mirror}/{archive.path}", partial)
        check(partial, archive.md5)
        partial.rename(path)
    unpack(path, folder)
    done.touch()
    if not keep:
        path.unlink()
    logger.info(f"{folder / archive.folder}: unpacked")


def main() -> None:
    parser = Parser(description="Download and unpack free corpora.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("names", nargs="+", choices=CORPORA, metavar="NAME", help=f"of {', '.join(CORPORA)}")
    parser.add_argument("--mirror", default=MIRROR, help="such as https://us.openslr.org/resources")
    parser.add_argument("--keep", action="store_true", help="keep the archives")
    args = parser.parse_args()
    for name in args.names:
        get(name, args.folder, args.mirror.rstrip("/"), args.keep)


if __name__ == "__main__":
    run_command(main)
