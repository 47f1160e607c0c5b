"""The parts of the Graph simulator that need no port."""
