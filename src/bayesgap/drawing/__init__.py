"""Plots, galleries and the words of tables, which know no figure of the paper."""
