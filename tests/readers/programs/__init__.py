"""The readers: each a small program around a Kafka client that is not ours, none imports `connector`."""
