"""Data made ready once: ILSVRC2012's archives to class folders or tar shards."""
