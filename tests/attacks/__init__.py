"""The attack suite: named attempts to get out of a sandbox, and what must be seen of each. `scripts/attack` runs it.

`catalogue/` holds the attacks as data; `worker` carries them out in a process of its own for each user and profile,
`scene` is the host that is attacked there, `lanes` starts and asks the workers, `holes` lists the walls known to leak.
Everything but `conftest`, `lanes` and `test_attacks` is standard library only: it also runs where pytest is not.
"""
