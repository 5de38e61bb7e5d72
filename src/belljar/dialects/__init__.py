"""Dialects: one vendor's wire format a file, as a pure codec between bytes and the neutral vocabulary."""
