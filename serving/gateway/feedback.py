"""Right or wrong: what users say about answers, kept so that a retraining can use it.

`images/<label>/<SHA-256>.png|.jpg` is a folder per class as `data.path` takes it; `feedback.jsonl` beside it is the
history, one line for each verdict. Written by the gateway, read by reports on A/B tests (`read`).

A picture lies in one class only: the newest verdict moves it.
"""

from __future__ import annotations

import collections
import hashlib
import json
import os
import re
import secrets
import string
import threading
import time
import unicodedata
from collections.abc import Iterator
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from serving.durable import sync_directory
from serving.gateway.errors import GatewayError, Problem
from serving.gateway.pictures import Picture, without_metadata
from serving.gateway.settings import Feedback

LINES = "feedback.jsonl"
IMAGES = "images"
# Folders of these names would be taken for splits of the data set.
_SPLITS = frozenset(("train", "training", "val", "eval", "valid", "validation", "dev", "test", "testing"))
_UNSAFE = re.compile(r"[%/\\:*?\"<>|\x00-\x1f\x7f-\x9f]")
_PLAIN = frozenset(string.ascii_letters + string.digits)
_LONGEST_FOLDER = 200


class Verdict(BaseModel):
    """One line of the history.

    Attributes:
        time: seconds since 1970.
        request_id: of the answer that is judged.
        user: hashed identity of who judged.
        variant: `stable`, `canary` or `latest`.
        version: which version answered.
        predicted: the label of the answer.
        confidence: its probability.
        right: whether the user found it right.
        label: the right label; None if the user only knew that the answer is wrong.
        digest: SHA-256 of the picture as the model got it.
        file: where the picture is kept, relative to the folder of `feedback.jsonl`; None if it is not.
    """

    model_config = ConfigDict(frozen=True)

    time: float
    request_id: str
    user: str
    variant: str
    version: int
    predicted: str
    confidence: float
    right: bool
    label: str | None = None
    digest: str
    file: str | None = None


class FeedbackStore:
    """The verdicts of one directory.

    Args:
        directory: made if missing.
        settings: the section `feedback`.

    Raises:
        GatewayError: the directory cannot be made.
    """

    def __init__(self, directory: Path, settings: Feedback) -> None:
        """Look at what is there: the space taken, and which answers were judged already."""
        self.directory = directory
        self._settings = settings
        self._lock = threading.Lock()
        try:
            (directory / IMAGES).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise GatewayError(f"feedback cannot be kept in {directory}: {error.strerror}; set data_dir") from None
        self._bytes = sum(path.stat().st_size for path in (directory / IMAGES).glob("*/*") if path.is_file())
        oldest = time.time() - settings.receipt_hours * 3600
        self._judged = {one.request_id: one.time for one in read(directory) if one.time >= oldest}

    def add(self, verdict: Verdict, picture: Picture | None) -> Verdict:
        """Keep a verdict; blocks on the disk.

        Args:
            verdict: without `file`.
            picture: what it is about, if it was sent along.

        Returns:
            The verdict as it was kept.

        Raises:
            Problem: 409 the answer was judged already, 507 no space is left.
        """
        with self._lock:
            if verdict.request_id in self._judged:
                raise Problem(409, "already_judged", "there is feedback on this answer already; thank you")
            try:
                if picture is not None and verdict.label is not None and self._settings.images:
                    verdict = verdict.model_copy(update={"file": self._keep(picture, verdict.label)})
                self._append(verdict)
            except OSError as error:
                raise _full(str(error.strerror)) from None
            self._judged[verdict.request_id] = verdict.time
            self._forget(verdict.time - self._settings.receipt_hours * 3600)
        return verdict

    def newest(self, count: int) -> list[Verdict]:
        """Return the last verdicts, newest first."""
        return list(collections.deque(read(self.directory), count))[::-1]

    def counts(self) -> dict[str, int]:
        """Return how many recent answers were judged and the bytes that pictures take."""
        with self._lock:
            return {"recent": len(self._judged), "image_bytes": self._bytes}

    def _keep(self, picture: Picture, label: str) -> str:
        content, suffix = without_metadata(picture)
        folder = self.directory / IMAGES / folder_name(label)
        target = folder / f"{picture.digest}{suffix}"
        earlier = [path for path in (self.directory / IMAGES).glob(f"*/{picture.digest}.*") if path != target]
        if not target.exists():
            if self._bytes + len(content) > self._settings.max_total_bytes:
                raise _full("feedback.max_total_bytes is reached")
            folder.mkdir(exist_ok=True)
            _write(target, content)
            self._bytes += len(content)
        for path in earlier:
            self._bytes -= path.stat().st_size
            path.unlink()
        return target.relative_to(self.directory).as_posix()

    def _append(self, verdict: Verdict) -> None:
        line = json.dumps(verdict.model_dump(), ensure_ascii=False, separators=(",", ":")).encode() + b"\n"
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        descriptor = os.open(self.directory / LINES, flags, 0o600)
        try:
            size = os.fstat(descriptor).st_size
            if size and os.pread(descriptor, 1, size - 1) != b"\n":
                line = b"\n" + line
            if os.write(descriptor, line) < len(line):
                raise OSError(28, "No space left on device")
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def _forget(self, oldest: float) -> None:
        # In the order of insertion, which is that of time.
        while self._judged and next(iter(self._judged.values())) < oldest:
            del self._judged[next(iter(self._judged))]


def read(directory: Path) -> Iterator[Verdict]:
    """Yield the verdicts of a directory, oldest first; lines that a crash cut off are passed over."""
    try:
        with (directory / LINES).open("rb") as stream:
            for line in stream:
                try:
                    yield Verdict.model_validate_json(line)
                except ValidationError:
                    continue
    except FileNotFoundError:
        return


def folder_name(label: str) -> str:
    """Return the folder of a class: the label itself, with what no folder name may hold as `%` and hexadecimal digits.

    Args:
        label: any text that is not empty.
    """
    text = unicodedata.normalize("NFC", label).encode("utf-8", "replace").decode()
    safe = _UNSAFE.sub(lambda sign: f"%{ord(sign[0]):02X}", text)
    is_odd = safe[0] == "." or safe != safe.strip() or safe.lower() in _SPLITS or safe == "__MACOSX"
    if is_odd or not safe.isprintable():
        safe = "".join(
            chr(byte) if index and chr(byte) in _PLAIN else f"%{byte:02X}" for index, byte in enumerate(text.encode())
        )
    return safe if len(safe.encode()) <= _LONGEST_FOLDER else _shortened(text)


def _shortened(text: str) -> str:
    start = text.encode()[:60].decode("utf-8", "ignore")
    return folder_name(f"{start}~{hashlib.sha256(text.encode()).hexdigest()[:16]}")


def _write(path: Path, content: bytes) -> None:
    """Write a new file beside and rename it; a crash leaves all of it or nothing."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(6)}")
    try:
        with temporary.open("xb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_directory(path.parent)


def _full(reason: str) -> Problem:
    return Problem(507, "no_space", f"feedback cannot be kept at the moment ({reason}); the answer itself stands")
