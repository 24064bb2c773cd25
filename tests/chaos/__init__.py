"""Crash tests: processes are killed, stopped and raced, and what is left is compared.

`python -m tests.chaos` does it at length; `tests/runtime` runs a little of each in the suite.
"""
