"""Byte counts for people."""

_SUFFIXES = ("B", "KiB", "MiB", "GiB", "TiB")


def human(size_bytes: int) -> str:
    """The count in the largest unit in which it is at least 1, with one decimal from KiB on."""
    size = float(size_bytes)
    for suffix in _SUFFIXES[:-1]:
        if size < 1024:
            break
        size /= 1024
    else:
        suffix = _SUFFIXES[-1]
    return f"{size:.0f} {suffix}" if suffix == "B" else f"{size:.1f} {suffix}"
