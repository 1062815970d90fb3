"""The first half: ticks, changes, and the worker that runs the sources of the partitions it owns."""
