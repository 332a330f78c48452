"""The Lua scripts of the store, one a file in `lua/`."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from hashlib import sha1
from importlib.resources import files


@dataclass(frozen=True, slots=True)
class Script:
    """A script's text and the hash that servers know it by."""

    name: str
    text: str
    sha: str


@cache
def script(name: str) -> Script:
    """`script("append")` is `lua/append.lua`."""
    text = files(__package__).joinpath("lua", f"{name}.lua").read_text()
    return Script(name, text, sha1(text.encode(), usedforsecurity=False).hexdigest())
