"""tools/download.py against a server on this machine that cuts, forgets ranges, or sends something else."""

import hashlib
import importlib.util
import io
import tarfile
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from irl.core.errors import UserError

pytest.importorskip("tqdm")
ROOT = Path(__file__).parents[2]


@pytest.fixture
def download(monkeypatch):
    spec = importlib.util.spec_from_file_location("download", ROOT / "tools" / "download.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Server:
    """Serves `content` at any path. cut: bytes after which the first answers end; ranges: whether it knows them."""

    def __init__(self):
        self.content, self.cuts, self.ranges, self.asked = b"", [], True, []
        self.length = True
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                begin = 0
                outer.asked.append(self.headers.get("Range"))
                if outer.ranges and self.headers.get("Range"):
                    begin = int(self.headers["Range"].removeprefix("bytes=").rstrip("-"))
                if begin and begin >= len(outer.content):
                    self.send_error(416)
                    return
                self.send_response(206 if begin else 200)
                rest = outer.content[begin:]
                if outer.length:
                    self.send_header("Content-Length", str(len(rest)))
                self.end_headers()
                self.wfile.write(rest[: outer.cuts.pop(0)] if outer.cuts else rest)

            def log_message(self, *args):
                pass

        self.http = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}"
        threading.Thread(target=self.http.serve_forever, daemon=True).start()


@pytest.fixture
def server():
    found = Server()
    yield found
    found.http.shutdown()
    found.http.server_close()


def tar(members):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return out.getvalue()


def offer(download, monkeypatch, server, content, name="musan"):
    archive = download.CORPORA[name]._replace(md5=hashlib.md5(content).hexdigest())
    monkeypatch.setitem(download.CORPORA, name, archive)
    server.content = content


def test_a_cut_download_goes_on_where_it_stopped(download, server, tmp_path, monkeypatch):
    clip = bytes(range(256)) * 4000
    offer(download, monkeypatch, server, tar({"musan/noise/a.wav": clip, "musan/README": b"x"}))
    server.cuts = [1000]
    with pytest.raises(UserError, match=r"cut off after 1000 .*run again to go on from there"):
        download.get("musan", tmp_path, server.url, keep=False)
    download.get("musan", tmp_path, server.url, keep=False)
    assert server.asked == [None, "bytes=1000-"]
    assert (tmp_path / "musan/noise/a.wav").read_bytes() == clip
    assert sorted(p.name for p in tmp_path.iterdir()) == [".musan.unpacked", "musan"]
    download.get("musan", tmp_path, server.url, keep=False)
    assert len(server.asked) == 2, "what is unpacked is not fetched again"


def test_an_archive_without_a_published_sum_shows_its_own(download, server, tmp_path, monkeypatch, caplog):
    content = tar({"speechocean762/train/text": b"x"})
    monkeypatch.setattr(server, "content", content, raising=False)
    with caplog.at_level("INFO"):
        download.get("speechocean762", tmp_path, server.url, keep=False)
    assert (tmp_path / "speechocean762/train/text").read_bytes() == b"x"
    assert hashlib.md5(content).hexdigest() in caplog.text and "none is published" in caplog.text


def test_a_server_that_tells_no_length(download, server, tmp_path, monkeypatch):
    """The checksum alone tells whether the file is whole."""
    offer(download, monkeypatch, server, tar({"musan/a": b"1" * 5000}))
    server.length = False
    whole, server.content = server.content, server.content[:40]
    with pytest.raises(UserError, match="MD5 sum"):
        download.get("musan", tmp_path, server.url, keep=False)
    server.content = whole
    download.get("musan", tmp_path, server.url, keep=False)
    assert (tmp_path / "musan/a").read_bytes() == b"1" * 5000


def test_a_server_without_ranges_starts_over(download, server, tmp_path, monkeypatch):
    offer(download, monkeypatch, server, tar({"musan/a": b"1" * 5000}))
    server.cuts, server.ranges = [50], False
    with pytest.raises(UserError, match="cut off"):
        download.get("musan", tmp_path, server.url, keep=False)
    download.get("musan", tmp_path, server.url, keep=True)
    assert (tmp_path / "musan/a").read_bytes() == b"1" * 5000 and (tmp_path / "musan.tar.gz").exists()


def test_a_whole_but_unchecked_download_is_checked(download, server, tmp_path, monkeypatch):
    """Killed between the last byte and the check: the server then has nothing left to send (416)."""
    offer(download, monkeypatch, server, tar({"musan/a": b"1"}))
    (tmp_path / "musan.tar.gz.part").write_bytes(server.content)
    download.get("musan", tmp_path, server.url, keep=False)
    assert (tmp_path / "musan/a").exists()


def test_another_file_is_refused_and_removed(download, server, tmp_path, monkeypatch):
    offer(download, monkeypatch, server, tar({"musan/a": b"1"}))
    server.content = b"<html>not found</html>"
    with pytest.raises(UserError, match=r"MD5 sum .*, published is .*; removed, run again"):
        download.get("musan", tmp_path, server.url, keep=False)
    assert not list(tmp_path.iterdir())


def test_zip_archives_and_paths_that_lead_out(download, server, tmp_path, monkeypatch):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("RIRS_NOISES/simulated_rirs/smallroom/a.wav", b"1")
        archive.writestr("../escaped", b"2")
    offer(download, monkeypatch, server, out.getvalue(), "rirs_noises")
    download.get("rirs_noises", tmp_path / "in", server.url, keep=False)
    assert (tmp_path / "in/RIRS_NOISES/simulated_rirs/smallroom/a.wav").exists()
    assert not (tmp_path / "escaped").exists()
    offer(download, monkeypatch, server, tar({"../escaped": b"2"}))
    with pytest.raises(UserError, match="cannot be unpacked"):
        download.get("musan", tmp_path / "in", server.url, keep=False)
    assert not (tmp_path / "escaped").exists()


def test_no_such_file_and_no_server(download, tmp_path):
    with pytest.raises(UserError, match="cut off after 0 bytes"):
        download.get("musan", tmp_path, "http://127.0.0.1:9", keep=False)
