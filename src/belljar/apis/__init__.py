"""Surfaces that are no conversation: health and metrics, files, sandboxes. Each module offers its paths as `API`."""
