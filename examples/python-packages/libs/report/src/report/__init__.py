"""A table of files and their sizes."""

from pathlib import Path

from units import human


def table(directory: Path) -> str:
    """One line for each file directly in the directory, in the order of their names."""
    files = sorted(path for path in directory.iterdir() if path.is_file())
    return "".join(f"{path.name:<24}{human(path.stat().st_size):>12}\n" for path in files)
