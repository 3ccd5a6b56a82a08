"""Fetch and unpack the archives of data sets: resumable, checked, and never at the cost of a file already there."""

from __future__ import annotations

import gzip
import hashlib
import http.client
import json
import shutil
import tarfile
import time
import urllib.error
import urllib.request
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from tome_audio.data.whole_file import whole_file

_BLOCK = 2**20
_LOST = (urllib.error.URLError, http.client.HTTPException, ConnectionError, TimeoutError)
# Answers that may be different a little later: timeout, no such part, too many requests; and all above 500.
_PASSING = (408, 416, 429)

Progress = Callable[[int, int | None], None]
"""Called with (bytes there, bytes in all); the latter is None where the server does not say."""


class DownloadError(RuntimeError):
    """A file could not be fetched, checked or unpacked; the message says what to do."""


class Download(NamedTuple):
    """A fetched file and, in words, how it was checked."""

    path: Path
    check: str


def download(
    url: str,
    path: str | Path,
    *,
    sha256: str | None = None,
    attempts: int = 5,
    pause: float = 2.0,
    timeout: float = 60.0,
    on_progress: Progress | None = None,
) -> Download:
    """Fetch `url` to `path`, going on where an earlier call or attempt broke off.

    What has come so far is in `path` + ".part", and beside it, in ".part.json", which version of the file it is
    part of; a server that has another version by now, or cannot send parts, sends all of it again. `path` itself
    appears only when all is there and checked, and is never replaced.

    Args:
        url: http or https.
        path: The file to make; its folder is made if need be.
        sha256: As upstream publishes it. Without it only the size is checked, against what the server says.
        attempts: Connections to try.
        pause: Seconds before the second attempt; doubled before each further one.
        timeout: Seconds without an answer after which a connection counts as lost.
        on_progress: Called as bytes arrive.

    Raises:
        DownloadError: The server refuses or cannot be reached, or the checksum is another.
        OSError: The disk is full or the folder cannot be written.
    """
    target = Path(path)
    if target.exists():
        if sha256 is not None and (found := file_sha256(target)) != sha256:
            raise DownloadError(
                f"{target} is there, but its sha256 is {found[:12]}... and not {sha256[:12]}... as published: it was "
                "left as it is; move it away to fetch the published file"
            )
        return Download(target, "already there, " + ("sha256 as published" if sha256 else "not checked"))
    part = target.with_name(target.name + ".part")
    for attempt in range(attempts):
        try:
            size = _fetch(url, part, timeout, on_progress)
            break
        except _LOST as error:
            if _is_refusal(error):
                raise DownloadError(f"{url}: the server refuses it ({error}); check the address") from error
            if attempt + 1 == attempts:
                raise DownloadError(
                    f"{url}: the connection failed {attempts} times ({error or type(error).__name__}); "
                    "run this again to go on from what has come"
                ) from error
            time.sleep(pause * 2**attempt)
    return _finish(url, part, target, sha256, size)


def file_sha256(path: Path) -> str:
    """The SHA-256 of a file's content, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def unpack(archive: str | Path, folder: str | Path, inside: str | None = None) -> Path:
    """Unpack a .zip or .tar.gz so that `folder` appears with all of it or not at all; return `folder`.

    A `folder` that is already there is left as it is. Members that point outside the archive's folder are refused.

    Args:
        archive: The file.
        folder: To be made.
        inside: A folder in the archive that becomes `folder`, without what lies beside it.

    Raises:
        DownloadError: The archive is damaged, unsafe, or has no folder `inside`.
        OSError: The disk is full or the folder cannot be written.
    """
    source, target = Path(archive), Path(folder)
    if target.exists():
        return target
    partial = target.with_name(f".{target.name}.unpacking")
    shutil.rmtree(partial, ignore_errors=True)  # ours, from a run that was killed
    partial.mkdir(parents=True)
    try:
        _extract(source, partial)
        top = partial if inside is None else partial / inside
        if not top.is_dir():
            raise DownloadError(f"{source} has no folder {inside!r}: has upstream changed its archive?")
        top.rename(target)
    except (tarfile.TarError, zipfile.BadZipFile, gzip.BadGzipFile, zlib.error, EOFError) as error:
        raise DownloadError(f"{source} cannot be unpacked ({error}): delete it and fetch it again") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return target


def _fetch(url: str, part: Path, timeout: float, on_progress: Progress | None) -> int | None:
    # One connection. Returns the size that the server promised; fewer bytes than that are a lost connection.
    note = part.with_name(part.name + ".json")
    have, size, validator = _progress_of(url, part, note)
    if size is not None and have == size:
        return size
    headers = {"Accept-Encoding": "identity", "User-Agent": "tome-audio"}
    if have and validator:
        # A server whose file has changed since answers with all of the new one.
        headers |= {"Range": f"bytes={have}-", "If-Range": validator}
    request = urllib.request.Request(url, headers=headers)
    with _opened(request, note, timeout) as answer:
        begin = have if _continues(answer, have) else 0
        length = answer.headers.get("Content-Length")
        size = None if length is None else begin + int(length)
        if not begin:
            _forget(part, note)
        with whole_file(note) as partial:
            partial.write_text(json.dumps({"url": url, "size": size, "validator": _validator(answer)}))
        part.touch()
        with part.open("r+b") as file:
            file.truncate(begin)
            file.seek(begin)
            while block := answer.read(_BLOCK):
                file.write(block)
                if on_progress is not None:
                    on_progress(file.tell(), size)
            have = file.tell()
    if size is not None and have != size:
        raise ConnectionError(f"the connection ended after {have} of {size} bytes")
    return size


def _forget(part: Path, note: Path) -> None:
    # In this order: killed at any moment, no note stands beside bytes that are not of the file it tells of.
    note.unlink(missing_ok=True)
    part.unlink(missing_ok=True)


def _opened(request: urllib.request.Request, note: Path, timeout: float) -> http.client.HTTPResponse:
    try:
        answer: http.client.HTTPResponse = urllib.request.urlopen(request, timeout=timeout)
    except urllib.error.HTTPError as error:
        if error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            note.unlink(missing_ok=True)  # what has come is not part of this file: the next attempt starts anew
        raise
    return answer


def _progress_of(url: str, part: Path, note: Path) -> tuple[int, int | None, str | None]:
    # Bytes there, bytes in all, and the version they are of; nothing where it is not known what they are part of.
    try:
        known = json.loads(note.read_text())
        if known["url"] == url:
            return part.stat().st_size, known["size"], known["validator"]
    except (OSError, ValueError, KeyError, TypeError):
        pass
    return 0, None, None


def _is_refusal(error: Exception) -> bool:
    return isinstance(error, urllib.error.HTTPError) and error.code < 500 and error.code not in _PASSING


def _continues(answer: http.client.HTTPResponse, have: int) -> bool:
    return answer.status == 206 and (answer.headers.get("Content-Range") or "").startswith(f"bytes {have}-")


def _validator(answer: http.client.HTTPResponse) -> str | None:
    # If-Range takes no weak tags.
    tag = answer.headers.get("ETag")
    return tag if tag and not tag.startswith("W/") else answer.headers.get("Last-Modified")


def _finish(url: str, part: Path, target: Path, sha256: str | None, size: int | None) -> Download:
    if sha256 is not None and (found := file_sha256(part)) != sha256:
        raise DownloadError(
            f"{url} gave a file whose sha256 is {found[:12]}... and not {sha256[:12]}... as published: it was kept as "
            f"{part}; delete it and try again, and if that does not help, fetch the file in another way"
        )
    part.replace(target)
    part.with_name(part.name + ".json").unlink(missing_ok=True)
    if sha256 is not None:
        return Download(target, "sha256 as published")
    return Download(target, "upstream publishes no checksum: " + ("size checked" if size else "not checked"))


def _extract(archive: Path, folder: Path) -> None:
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as members:
            if outside := [n for n in members.namelist() if n.startswith("/") or ".." in Path(n).parts]:
                raise DownloadError(f"{archive} holds {outside[0]!r}, which lies outside of it: do not use this file")
            members.extractall(folder)
    else:
        with tarfile.open(archive) as members:
            members.extractall(folder, filter="data")
