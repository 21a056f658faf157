import unittest

from units import human


class HumanTest(unittest.TestCase):
    def test_units(self):
        sizes = {0: "0 B", 1023: "1023 B", 1024: "1.0 KiB", 1536: "1.5 KiB", 5 << 20: "5.0 MiB", 3 << 40: "3.0 TiB", 3 << 50: "3072.0 TiB"}
        for size_bytes, text in sizes.items():
            with self.subTest(size_bytes=size_bytes):
                self.assertEqual(human(size_bytes), text)
