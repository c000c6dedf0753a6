"""Text that others wrote (names of licences, models, filters), so that in Markdown it can be nothing but text.

It stands in a code span, on one line, without the two characters that could end the span or a cell of a table: inside
one neither HTML nor links nor emphasis mean anything. Left out: showing it letter by letter as it was.
"""

import unicodedata

LONGEST = 160
_TRANSLATED = str.maketrans({"`": "'", "|": "¦"})


def inert(value: object) -> str:
    """`value` as a code span of one line.

    >>> inert("a | <b>`x`"), inert("1\\n2"), inert(None), inert(" ")
    ("`a ¦ <b>'x'`", '`1 2`', '(not recorded)', '(empty)')
    """
    if value is None:
        return "(not recorded)"
    text = " ".join("".join(map(_visible, str(value))).split()).translate(_TRANSLATED)
    if not text:
        return "(empty)"
    return f"`{text}`" if len(text) <= LONGEST else f"`{text[: LONGEST - 3]}...`"


def _visible(character: str) -> str:
    """A space for what controls, formats or ends a line, such as marks that turn the direction of writing."""
    return " " if unicodedata.category(character) in ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp") else character
