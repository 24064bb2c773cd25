"""Attacks on what docs/guarantees.md promises: crashes, faults, races, damage and odd input.

`python3 dev chaos` runs them at length; the suite runs a little of each beside the tests.
"""
