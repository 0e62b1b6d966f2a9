"""Weights from anywhere, certainly loaded right: sources, records, naming maps, strict loading, verification."""
