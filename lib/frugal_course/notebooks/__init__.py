"""Notebooks as documents: run with parameters, in grids, made ready for Colab and a talk."""
