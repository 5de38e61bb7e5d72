"""What runs in the sandbox: launcher, zygote and session runner.

Promises: only the standard library and what the image holds is imported here, nothing of the host's `belljar`. The host
may import from here (frames, constants), never the other way round.
"""
