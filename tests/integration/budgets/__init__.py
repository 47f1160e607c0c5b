"""The shared call budget over SQL, and the one in memory that tests use, held to the same."""
