"""Readers that we did not write, each on its own, rebuild an artifact from the topic: `make test-readers`.

story.py tells what happens to a topic, readers.py lists who reads it and how, builds.py fetches and builds what those
need, matrix.py writes down what they saw. `docs/readers.md` has the recipes and the outcome.
"""
