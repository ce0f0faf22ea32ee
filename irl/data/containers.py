"""How much audio the header of a file promises, and how much the file holds. libsndfile reads what there is, and says
nothing."""

from __future__ import annotations

import io
import re
import struct
from typing import BinaryIO, Literal, NamedTuple

# Sizes that programs write into the header of a stream whose length they do not know: FFmpeg's, SoX's, Kaldi's.
UNKNOWN_SIZES = {0, 0x7FFFF000, 0x7FFFFFFF, 0xFFFFFFFF}
# Tags that other programs append to any file.
TAGS = (b"TAG", b"ID3", b"APETAGEX")
# The order of an MP3 frame's header: MPEG 1, then 2 and 2.5, in kbit/s; sampling rates of MPEG 1 in Hz.
MP3_KBITS = (
    (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
)
MP3_RATES = (44100, 48000, 32000)


class WavData(NamedTuple):
    """Where the samples of a RIFF file lie: the first byte, how many the header promises, and the order of bytes."""

    begin: int
    size: int
    order: Literal["little", "big"]


def wav_data(file: BinaryIO, base: int = 0) -> WavData | None:
    """The data chunk of the RIFF file that begins at byte `base`; None if it has none."""
    file.seek(base)
    order: Literal["little", "big"] = "big" if file.read(12).startswith(b"RIFX") else "little"
    while True:
        chunk = file.read(8)
        if len(chunk) < 8:
            return None
        size = int.from_bytes(chunk[4:], order)
        if chunk.startswith(b"data"):
            return WavData(file.tell(), size, order)
        file.seek(size + size % 2, io.SEEK_CUR)


def problem(file: BinaryIO) -> str:
    """How the length of a RIFF, NIST SPHERE or Ogg file contradicts its header; "" if it does not."""
    file.seek(0)
    magic = file.read(7)
    end = file.seek(0, io.SEEK_END)
    if magic[:4] in (b"RIFF", b"RIFX"):
        data = wav_data(file)
        if data is None or data.size in UNKNOWN_SIZES:
            return ""
        cut_off, more = _cut_off(data.size, end - data.begin), _beyond(file, data, end)
        wrong = f"the header promises {data.size} bytes of samples, but {more} bytes more follow; the header is wrong"
        return cut_off or (wrong if more else "")
    if magic == b"NIST_1A":
        return _sphere(file, end)
    if magic[:4] == b"OggS":
        file.seek(max(0, end - 2**17))
        tail = file.read()
        page = tail[tail.rfind(b"OggS") :]
        # Bit 2 of the flags marks the last page of a stream; a table of sizes precedes its content.
        whole = len(page) > 26 and page[5] & 4 and 27 + page[26] + sum(page[27 : 27 + page[26]]) <= len(page)
        return "" if whole else "it is cut off: the last page of the Ogg stream is missing"
    return ""


def _cut_off(promised: int, found: int) -> str:
    if promised <= found:
        return ""
    return f"it is cut off: the header promises {promised} bytes of samples, the file holds {found}"


def _beyond(file: BinaryIO, data: WavData, end: int) -> int:
    """How many bytes after the samples are no chunks, no padding and no tag: they are more samples."""
    where = data.begin + data.size
    file.seek(where)
    where += data.size % 2 if file.read(1) == b"\0" else 0
    while where < end:
        file.seek(where)
        head = file.read(8)
        size = int.from_bytes(head[4:], data.order)
        if not re.fullmatch(rb"[ -~]{4}", head[:4]) or where + 8 + size > end:
            break
        where += 8 + size + size % 2
    file.seek(where)
    left = file.read(2**20)
    return 0 if not left.strip(b"\0") or left.startswith(TAGS) else end - where


def of_stream(content: bytes) -> bytes:
    """A RIFF file whose header says 0 bytes of samples, as a stream's may, with what follows as its samples."""
    file = io.BytesIO(content)
    data = wav_data(file) if content[:4] in (b"RIFF", b"RIFX") else None
    if data is None or data.size or not _beyond(file, data, len(content)):
        return content
    size = (len(content) - data.begin).to_bytes(4, data.order)
    return content[: data.begin - 4] + size + content[data.begin :]


def _sphere(file: BinaryIO, end: int) -> str:
    """A SPHERE file that is not compressed: header, then sample_count x channel_count samples of sample_n_bytes."""
    file.seek(0)
    head = file.read(1024).decode("latin-1")
    fields = {name: int(value) for name, value in re.findall(r"^(\w+) -i (\d{1,15})\b", head, re.M)}
    size = re.match(r"NIST_1A\n *(\d{1,9})\n", head)
    if size is None or "shorten" in head or "sample_count" not in fields:
        return ""
    samples = fields["sample_count"] * fields.get("sample_n_bytes", 1) * fields.get("channel_count", 1)
    return _cut_off(samples, end - int(size[1]))


def problem_in_log(log: str) -> str:
    """The same from libsndfile's notes of its parsing, for AIFF, AU, W64 and RF64."""
    found = re.search(r"(?:SSND|Data Size|riff)\s*: (\d+) \(should be (\d+)\)", log)
    if found and int(found[1]) not in UNKNOWN_SIZES:
        return _cut_off(int(found[1]), int(found[2]))
    found = re.search(r"frame count (\d+) does not match value from 'ds64' chunk of (\d+)", log)
    if found and int(found[2]):
        return f"it is cut off: the header promises {found[2]} samples, the file holds {found[1]}"
    return ""


def mp3_with_length(content: bytes, frames: int) -> bytes | None:
    """An MP3 file of more than `frames` samples with a frame before it that states its length, as encoders write one.

    None for any other file, and for one that states its length itself. Format: ISO 11172-3, 2.4.1.3, and Xing's header.
    """
    start = 0
    if content.startswith(b"ID3") and len(content) > 10:
        start = 10 + sum((byte & 0x7F) << 7 * i for i, byte in enumerate(reversed(content[6:10])))
    first = _mp3_frame(content, start)
    if first is None or re.search(b"Xing|Info|VBRI", content[start : start + first]):
        return None
    count, where = 0, start
    while (frame := _mp3_frame(content, where)) is not None and where + frame <= len(content):
        count, where = count + 1, where + frame
    if count * (1152 if content[start + 1] & 8 else 576) <= frames:
        return None
    mpeg_1, mono = content[start + 1] & 8, content[start + 3] >> 6 == 3
    side = (17 if mono else 32) if mpeg_1 else (9 if mono else 17)
    # The header of the first frame, at a bit rate whose frames have room, and without a checksum.
    header = bytes([0xFF, content[start + 1] | 1, content[start + 2] & 0x0C | 0x90, content[start + 3]])
    shape = _mp3_frame(header, 0)
    assert shape is not None
    info = header + bytes(side) + b"Xing" + struct.pack(">II", 1, count)
    return info.ljust(shape, b"\0") + content[start:]


def _mp3_frame(content: bytes, where: int) -> int | None:
    """Size in bytes of the layer III frame that begins at this byte; None if no frame does."""
    head = content[where : where + 4]
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xE6 != 0xE2 or head[1] & 0x18 == 0x08:
        return None
    mpeg_1 = head[1] & 0x18 == 0x18
    kbits, rate = head[2] >> 4, head[2] >> 2 & 3
    if kbits in (0, 15) or rate == 3:
        return None
    hertz = MP3_RATES[rate] >> (0 if mpeg_1 else 1 if head[1] & 0x10 else 2)
    size = (144 if mpeg_1 else 72) * 1000 * MP3_KBITS[not mpeg_1][kbits] // hertz
    return size + (head[2] >> 1 & 1)
