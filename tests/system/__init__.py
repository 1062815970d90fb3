"""Tests on the real servers: Kafka, the distribution registry, NATS. The fixtures stand in conftest.py."""
