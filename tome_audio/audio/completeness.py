"""Whether an audio file holds all that it promises: what libsndfile does not say by itself.

libsndfile shortens a cut WAV or Ogg file without a word. Both containers state where they end, so a few
header bytes are enough to notice. FLAC fails on its own, and MP3 is compared by its frame count.
"""

from __future__ import annotations

import struct
from typing import BinaryIO

# Programs that write WAV to a pipe cannot know its length and put a number in this range.
_STREAMED_FROM = 0x7F00_0000
# libsndfile's frame count for a stream of unknown length is 2^63 - 1.
_UNKNOWN_FRAMES = 2**62
# One MPEG frame: decoders disagree by less than this about encoder delay at the end of a file.
_MP3_SLACK = 1152
# An Ogg page is at most 27 + 255 + 255 * 255 bytes: the last one begins within this many from the end.
_OGG_TAIL = 128 * 1024
_OGG_LAST_PAGE_FLAG = 0x04


def missing_part(file: BinaryIO, container: str, promised: int, decoded: int) -> str | None:
    """Say what a fully decoded file lacks, or None when nothing is known to lack.

    Args:
        file: the open file; its position is moved.
        container: libsndfile's name, such as ``"WAV"``, ``"OGG"``, ``"FLAC"`` or ``"MP3"``.
        promised: frames by the header.
        decoded: frames that came out.
    """
    slack = _MP3_SLACK if container == "MP3" else 0
    if promised < _UNKNOWN_FRAMES and decoded + slack < promised:
        return f"the header promises {promised} frames and {decoded} decode"
    if container in ("WAV", "WAVEX"):
        missing = missing_wav_bytes(file)
        return f"the data chunk lacks {missing} bytes" if missing else None
    if container == "OGG" and not ends_with_last_ogg_page(file):
        return "the last Ogg page is missing or incomplete"
    return None


def missing_wav_bytes(file: BinaryIO) -> int:
    """Bytes that a RIFF file's data chunk promises beyond the end of the file (0: complete or unknown).

    Unknown are RF64 files, files without a data chunk and lengths that stand for "streamed".
    """
    size = file.seek(0, 2)
    file.seek(0)
    head = file.read(12)
    if head[:4] not in (b"RIFF", b"RIFX") or head[8:] != b"WAVE":
        return 0
    layout = "<4sI" if head[:4] == b"RIFF" else ">4sI"
    while len(header := file.read(8)) == 8:
        name, length = struct.unpack(layout, header)
        if name == b"data":
            return 0 if length >= _STREAMED_FROM else max(0, file.tell() + length - size)
        file.seek(length + length % 2, 1)  # chunks start at even offsets
    return 0


def ends_with_last_ogg_page(file: BinaryIO) -> bool:
    """Whether the last Ogg page is whole and carries the end-of-stream flag (RFC 3533, section 6)."""
    file.seek(max(0, file.seek(0, 2) - _OGG_TAIL))
    tail = file.read()
    page = tail[max(tail.rfind(b"OggS"), 0) :]
    if len(page) < 27 or len(page) < 27 + page[26]:
        return False
    body = sum(page[27 : 27 + page[26]])
    return len(page) >= 27 + page[26] + body and bool(page[5] & _OGG_LAST_PAGE_FLAG)
