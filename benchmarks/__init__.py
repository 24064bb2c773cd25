"""Benchmarks of Kitaru; `./dev bench` runs them."""
