"""Chapter 1: what a query, a training run, a cache and a label cost. No torch in here."""

from frugal.costs.scenario import Scenario

__all__ = ["Scenario"]
