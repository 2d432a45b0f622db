"""Text in ImageJ's macro language."""

from __future__ import annotations

import re

_PLAIN = re.compile(r"[ !#-\[\]-~]+|.", re.DOTALL)


def quote(text: object) -> str:
    """An expression of ImageJ's macro language for `text`, in ASCII.

    ImageJ reads macro files as Latin-1, so other letters of a path would come out as others: they
    are written by their numbers.
    """
    parts = [
        f'"{one}"' if re.match(r"[ !#-\[\]-~]", one) else "+".join(f"fromCharCode({n})" for n in _utf16(one))
        for one in _PLAIN.findall(str(text))
    ]
    # A string must come first, or ImageJ takes the + for a sum.
    return "+".join(['""', *parts] if not parts or parts[0][0] != '"' else parts)


def _utf16(character: str) -> list[int]:
    data = character.encode("utf-16-be", "surrogatepass")
    return [int.from_bytes(data[i : i + 2], "big") for i in range(0, len(data), 2)]
