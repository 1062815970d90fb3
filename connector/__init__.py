"""OCI Sync for Kafka: the files of an OCI artifact on Kafka, whole, once, in order."""

__version__ = "0.1.0"
