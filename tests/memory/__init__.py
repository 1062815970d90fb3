"""How far a pull drives the memory of the process that makes it: from the registry to Kafka, whatever was pushed."""
