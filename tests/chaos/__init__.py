"""Crash tests: processes are killed, stopped, raced and called oddly, and what is left is compared.

`python -m tests.chaos` does it at length; `tests/runtime` and `tests/mcp` run a little of each in
the suite.
"""
