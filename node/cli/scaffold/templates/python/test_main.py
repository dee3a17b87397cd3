import unittest

from main import handler


class HandlerTest(unittest.TestCase):
    def test_greets(self):
        self.assertEqual(handler({"name": "quail"}, None), {"greeting": "Hello, quail!"})

    def test_wants_a_name(self):
        with self.assertRaises(ValueError):
            handler({}, None)


if __name__ == "__main__":
    unittest.main()
