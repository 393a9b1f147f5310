"""The published tables, and the audit that recomputes them. No torch in here."""
