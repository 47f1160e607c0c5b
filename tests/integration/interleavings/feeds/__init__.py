"""Feeds of the interleavings only: a timeline without `updated_time`, its children, and one that has it."""
