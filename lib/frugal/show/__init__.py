"""What a person looks at: figures and tables of results. Knows DataFrames, never models."""

from frugal.show.claims import claims
from frugal.show.figures import accuracy_against_cost, order_dots, training_curve

__all__ = ["accuracy_against_cost", "claims", "order_dots", "training_curve"]
