"""Text files, which may be compressed (.gz, .bz2, .zst, .lz4): opened, counted, read again by lines."""

from __future__ import annotations

import codecs
import io
import re
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa

from shared.datasets.rows import DatasetError

_COUNT_CHUNK_BYTES = 1 << 20
# What a file that is no text says at its start: NUL in the first bytes, or much that is no text among more.
_FIRST_BYTES, _START_BYTES = 64, 4096
_NO_TEXT_SHARE = 0.1
# Control characters but for tab and line breaks, and bytes that did not decode.
_NO_TEXT = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]")
_UTF16_MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_COMPRESSED = (".gz", ".bz2", ".zst", ".lz4")


class Lines:
    """Lines of a text, some of which may be read again. `taken`: since it was last cleared."""

    def __init__(self, text: Iterable[str]) -> None:
        self._text = iter(text)
        self._again: deque[str] = deque()
        self.taken: list[str] = []

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = self._again.popleft() if self._again else next(self._text)
        self.taken.append(line)
        return line

    def put_back(self, lines: Sequence[str]) -> None:
        self._again.extendleft(reversed(lines))


@contextmanager
def open_text(path: Path, encoding: str = "utf-8") -> Iterator[io.TextIOWrapper]:
    """Opens (and decompresses) text. Bytes that are not of the encoding come as surrogates, which no field
    accepts, so they cost their row only; UTF-16 and what is no text, which would cost all rows, is refused.

    Raises DatasetError, also in the middle of reading.
    """
    with (
        _opened(path) as stream,
        io.BufferedReader(stream) as buffered,
        io.TextIOWrapper(buffered, encoding=encoding, errors="surrogateescape", newline="") as text,
    ):
        start = buffered.peek(_START_BYTES)[:_START_BYTES]
        if encoding == "utf-8" and start[:2] in _UTF16_MARKS:
            raise DatasetError(
                f"{path} must be UTF-8, got UTF-16; convert it with iconv -f UTF-16 -t UTF-8 OLD > NEW"
            )
        allowed = 0.0 if b"\0" in start[:_FIRST_BYTES] else _NO_TEXT_SHARE
        # The last character may be cut.
        require_text(path, codecs.getincrementaldecoder(encoding)("surrogateescape").decode(start), allowed)
        yield text


def require_text(path: Path, start: str, allowed: float = 0.0) -> None:
    """Raises DatasetError that names the place, and shows nothing, where more than a share of what a file
    begins with is no text."""
    bad = [found.start() for found in _NO_TEXT.finditer(start)]
    if len(bad) <= allowed * len(start):
        return
    line, character = start.count("\n", 0, bad[0]) + 1, bad[0] - start.rfind("\n", 0, bad[0])
    code = ord(start[bad[0]])
    got = f"byte 0x{code - 0xDC00:02x}" if code >= 0xDC00 else f"control character 0x{code:02x}"
    raise DatasetError(
        f"{path} must be UTF-8 text, got {got} in line {line}, character {character}; check that it is the "
        "file you mean, or convert it with iconv -f ENCODING -t UTF-8 OLD > NEW"
    )


def count_lines(path: Path) -> int:
    """Line breaks of a (compressed) file. Raises DatasetError."""
    lines = 0
    with _opened(path) as stream:
        while chunk := stream.read(_COUNT_CHUNK_BYTES):
            lines += chunk.count(b"\n")
    return lines


def compression_of(path: Path) -> str:
    """The ending that says how a file is compressed, or ""."""
    ending = path.suffix.lower()
    return ending if ending in _COMPRESSED else ""


@contextmanager
def _opened(path: Path) -> Iterator[pa.NativeFile]:
    if not path.is_file():
        raise DatasetError(f"{path} is not a file; check the path")
    try:
        with pa.input_stream(str(path), compression="detect") as stream:
            yield stream
    except OSError as error:
        ending = compression_of(path)
        if not ending:
            raise DatasetError(f"{path} cannot be read ({error}); check its permissions") from error
        raise DatasetError(
            f"{path} is not a {ending} file, or not a whole one ({error}); write or fetch it again, "
            f"or take {ending} off its name where it is not compressed"
        ) from error
