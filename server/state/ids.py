"""Ids of what the service makes: `ds_` and 37 lower-case characters that sort by the time they were made.

    prefix | 11 characters: microseconds since 1970 | 26 characters: 128 random bits

In the alphabet of Crockford's base 32 (no i, l, o, u), so that an id is read aloud and typed without doubt. An id
cannot be guessed, and a list is paged by ids alone: `after` need not exist any more.
"""

import re
import secrets
import threading
import time

ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
TIME_CHARACTERS = 11
RANDOM_CHARACTERS = 26

FORM = re.compile(f"[a-z_-]{{0,12}}[{ALPHABET}]{{{TIME_CHARACTERS + RANDOM_CHARACTERS}}}")

_lock = threading.Lock()
_newest_microsecond = 0


def new_id(prefix: str) -> str:
    """`prefix` and 37 characters; of two ids made in one process the later one is the greater.

    >>> new_id("ds_") < new_id("ds_"), len(new_id("file-"))
    (True, 42)
    """
    time_part = encoded(_next_microsecond(), TIME_CHARACTERS)
    return prefix + time_part + encoded(secrets.randbits(128), RANDOM_CHARACTERS)


def is_id(text: str) -> bool:
    """Whether a text has the form of an id; another one (a NUL in it, half a character) is not for a database to see.

    >>> is_id(new_id("ds_")), is_id("ds_1")
    (True, False)
    """
    return FORM.fullmatch(text) is not None


def encoded(number: int, characters: int) -> str:
    """A number in base 32, `characters` long; numbers sort as their texts do.

    >>> encoded(33, 3)
    '011'
    """
    digits = [ALPHABET[number >> 5 * place & 31] for place in reversed(range(characters))]
    return "".join(digits)


def _next_microsecond() -> int:
    """The time, or one microsecond after the last that was given: two ids of one process never share theirs."""
    global _newest_microsecond
    with _lock:
        _newest_microsecond = max(time.time_ns() // 1000, _newest_microsecond + 1)
        return _newest_microsecond
