"""The REST simulator, over HTTP."""
