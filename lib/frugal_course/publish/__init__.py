"""Executed notebooks for those who have no kernel: pages, slides."""
