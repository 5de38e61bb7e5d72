"""Tools: what the loop can call, one file a tool. They see sandboxes through `sandbox.base` only."""
