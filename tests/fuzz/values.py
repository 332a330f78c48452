"""Hard values of every type of field: edges, lies, and what real requests hold.

Both ways of making requests draw from here: `strategies.py` for hypothesis, `mutation.py` for speed.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field

NOW_MS = int(time.time() * 1000)
_INT32, _INT64 = (1 << 31) - 1, (1 << 63) - 1
_MAX_TIME_MS = 253402300799999

FLOATS = (
    0.0, -0.0, 1.0, -1.0, 0.5, 0.05, 2.0, 5.0, 5.000001, 1000.0, 1e6, -1e6, 1e-45, -1e-45, 1.1754944e-38,
    3.4028234663852886e38, -3.4028234663852886e38, 1e38, 1e30, -1e30, 1e308, -1e308, 5e-324,
    math.nan, math.inf, -math.inf,
)  # fmt: skip
INTS = (
    0, 1, -1, 2, 3, 7, 9, 10, 11, 63, 64, 65, 100, 101, 127, 128, 255, 256, 499, 500, 501, 999, 1000, 1001,
    4999, 5000, 5001, 10_000, 10_001, 65_535, _INT32, -_INT32 - 1,
)  # fmt: skip
LONG_INTS = (
    *INTS, _INT64, -_INT64 - 1, _INT64 - 1, 1 << 53, (1 << 53) + 1, _MAX_TIME_MS, _MAX_TIME_MS + 1,
    NOW_MS, NOW_MS - 60_000, NOW_MS + 240_000, NOW_MS + 400_000, NOW_MS * 1000, NOW_MS // 1000,
)  # fmt: skip
ENUMS = (*range(-1, 12), 99, _INT32, -_INT32 - 1)
TEXTS = (
    "", " ", "a", "x" * 64, "x" * 65, "x" * 128, "x" * 129, "x" * 256, "x" * 257, "x" * 1024, "x" * 1025,
    "é" * 128, "é" * 129, "x" * 32_768, "x" * 32_769, "\x00", "a\x00b", "a\nb", "\t", "\x1f", "\x7f", "\x85",
    "\u2028", "\ufeff", "\u202egnirts", "\u200b\u200b", "\u0456tem-0001", "item-0001\u0301",
    "e\u0301\u0301" * 80,
    "\U0001f469\u200d\U0001f680", "\U0010ffff", "ﷺ" * 40, "../../etc/passwd", "/", ".", "..", "~",
    "{", "}", "{default:0}", "default:0", "*", "?", "[a-z]*", "%s%n%d", "${PATH}", "$(id)", "'; DROP TABLE x",
    "\\", '"', "'", "null", "None", "true", "NaN", "-1", "0", "1e400", "9" * 30, "9" * 5000, "٣٢١", "²",
    "<script>", "http://127.0.0.1:1/", "default", "DEFAULT", "default ", "next", "like", "rating", "similar",
)  # fmt: skip
BYTES = (
    b"", b"\0", b"\xff", b"\xff" * 4, b"\0" * 4, b"\0" * 8, b"\0\0\xc0\x7f", b"\0\0\x80\x7f", b"\xc3\x28",
    b"\xed\xa0\x80", bytes(range(256)), b"\0" * 2048, b"\x3f" * 68,
)  # fmt: skip
# Repeated fields grow to these: what the limits are, and one more.
COUNTS = (2, 3, 17, 51, 65, 101, 501, 1001, 1025, 5001, 20_001)


@dataclass(slots=True)
class Known:
    """What the servers hold, by the name of the field that may name it: most cases should reach deep code.

    Answers add page tokens, cursors and ids as they come.
    """

    by_field: dict[str, list[str]] = field(default_factory=dict)
    _kept: int = 64

    def add(self, name: str, *values: str) -> None:
        """The latest are kept."""
        kept = self.by_field.setdefault(name, [])
        kept.extend(value for value in values if value and value not in kept)
        del kept[: -self._kept]

    def of(self, name: str) -> list[str]:
        return self.by_field.get(name, [])
