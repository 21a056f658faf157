import tempfile
import unittest
from pathlib import Path

from report import table


class TableTest(unittest.TestCase):
    def test_one_line_a_file_in_order(self):
        with tempfile.TemporaryDirectory() as name:
            (Path(name) / "b").write_bytes(b"x" * 2048)
            (Path(name) / "a").write_bytes(b"")
            lines = table(Path(name)).splitlines()
        self.assertEqual([line.split() for line in lines], [["a", "0", "B"], ["b", "2.0", "KiB"]])
