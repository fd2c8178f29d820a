"""Plots, tables and pages from run folders alone, and the worked example; without TensorFlow."""
