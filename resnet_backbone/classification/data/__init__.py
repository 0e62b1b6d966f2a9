"""Labelled images, where they are from, in what order a run sees them, and how a view of one is made."""
