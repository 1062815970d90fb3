"""The second half of a flow: from the topic to stores. Knows Kafka's records, and nothing of registries.

A line: `pipeline` takes records from a feed, `tasks/buffer` makes whole snapshots of them, `line` hands those to the
chains below it, a `chain` turns one into writes (by `tasks/diff` or `tasks/script`) and makes them in a store, and the
pipeline commits. `flow_sink` builds all of it from a flow file. A store is one file in `tasks/`, see `store`.
"""
