"""The program that runs Python functions for a Covey node."""
