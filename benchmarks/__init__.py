"""Real runs and what they measured: scripts that run, `results.json` that holds, `report` that prints."""
