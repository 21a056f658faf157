import sys
import unittest

sys.path.insert(0, "src")
from main import add  # noqa: E402


class AddTest(unittest.TestCase):
    def test_add(self):
        self.assertEqual(add(1, 2), 3)
