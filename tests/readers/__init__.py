"""Readers that we did not write, each on its own, rebuild an artifact from the topic: `make test-readers`.

story      what happens to a topic
reading    what a reader is: its process, its lines
readers    who reads, and how; flink and connect have files of their own, and postgres a server
recipes    the blocks of docs/readers.md, pointed at a test's servers
builds     what the readers are made of, fetched and built once a machine
matrix     what they saw, as the table of docs/readers.md
"""
