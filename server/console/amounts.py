"""Times and sizes in words for people; templates use these as filters."""

from datetime import UTC, datetime

UNITS = ((86_400, "d"), (3600, "h"), (60, "min"), (1, "s"))
SIZES = ((2**30, "GB"), (2**20, "MB"), (2**10, "kB"))


def day(seconds: int) -> str:
    """A time, in UTC.

    >>> day(0)
    '1970-01-01 00:00'
    """
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M")


def duration(seconds: float) -> str:
    """How long something takes, in its two largest units.

    >>> [duration(seconds) for seconds in (0.2, 59.4, 61, 7325, 90_000)]
    ['less than 1 s', '59 s', '1 min 1 s', '2 h 2 min', '1 d 1 h']
    """
    left = round(seconds)
    if left < 1:
        return "less than 1 s"
    counts = []
    for size, name in UNITS:
        count, left = divmod(left, size)
        counts.append(f"{count} {name}" if count else "")
    first = next(place for place, count in enumerate(counts) if count)
    return " ".join(filter(None, counts[first : first + 2]))


def size(number: float) -> str:
    """A number of bytes.

    >>> [size(number) for number in (12, 2048, 5_300_000)]
    ['12 bytes', '2 kB', '5.1 MB']
    """
    for least, name in SIZES:
        if number >= least:
            return f"{number / least:.1f}".removesuffix(".0") + f" {name}"
    return f"{number:.0f} bytes"


def amount(value: float) -> str:
    """A count, or a rate.

    >>> [amount(value) for value in (0, 1234567, 0.0123, 12.34)]
    ['0', '1,234,567', '0.012', '12']
    """
    if float(value).is_integer() or abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.2g}"
