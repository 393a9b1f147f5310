"""Chapter 6: every way on one task, priced and compared."""
