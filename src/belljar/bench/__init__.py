"""Benchmarks: what `belljar bench` measures on this machine, beside what other ways of running Python cost here."""
