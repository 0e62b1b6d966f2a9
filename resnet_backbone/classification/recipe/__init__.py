"""What is trained and how long: the keys of a recipe, and what they mean in iterations."""
