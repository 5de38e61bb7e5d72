"""The server: requests over HTTP in any dialect, answered by one service."""
