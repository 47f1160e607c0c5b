"""Broken rules, each a patch to the product's source, and the tests that must turn red over it."""
