"""Objectives: what a model is trained to predict, as a way of cutting batches out of the data."""
