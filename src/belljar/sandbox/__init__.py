"""Sandboxes on the host's side: images, walls, zygotes, sessions and the pool."""
