"""Classifiers on labelled images: protocols, accuracies, errors by class, statistics of batch norms."""
