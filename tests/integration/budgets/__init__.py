"""The shared call budget over its real stores: SQL and Redis."""
