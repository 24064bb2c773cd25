"""Promises that are switched off one by one, to see that a test notices each.

`python3 dev mutants` runs them; the suite only sees that each can still be switched off.
"""
