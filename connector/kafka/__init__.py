"""Kafka as we use it: record, clients, topics, changelog, ownership, transaction. Knows no OCI."""
