"""The seminar room: notebooks made ready for a talk and for Colab, slides, and grids of notebooks.

Stands on `engine` and `show`; knows notebooks as documents, never what they compute.
"""
