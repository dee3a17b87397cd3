import unittest

from lambda_function import lambda_handler


class HandlerTest(unittest.TestCase):
    def test_greets(self):
        self.assertEqual(lambda_handler({"name": "quail"}, None), {"greeting": "Hello, quail!"})

    def test_wants_a_name(self):
        with self.assertRaises(ValueError):
            lambda_handler({}, None)


if __name__ == "__main__":
    unittest.main()
