"""What must never be seen, looked for in everything that is written."""
