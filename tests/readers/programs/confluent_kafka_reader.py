"""A reader by confluent-kafka, which is librdkafka: one JSON line a record, until it is ended.

python -m tests.readers.programs.confluent_kafka_reader BOOTSTRAP TOPIC ISOLATION FORMAT SCHEMA_REGISTRY
ISOLATION "" leaves what the client does by itself.
"""

import sys
import uuid

from confluent_kafka import Consumer, KafkaException

from tests.readers.programs.python_files import Files

bootstrap, topic, isolation, format_, schema_registry = sys.argv[1:6]
files = Files(format_, schema_registry)
consumer = Consumer(
    {
        "bootstrap.servers": bootstrap,
        "group.id": f"reader-{uuid.uuid4()}",
        "auto.offset.reset": "earliest",
        "enable.auto.commit": False,
        **({"isolation.level": isolation} if isolation else {}),
    }
)
consumer.subscribe([topic])
while True:
    record = consumer.poll(1.0)
    if record is None:
        continue
    error = record.error()
    if error is not None:
        raise KafkaException(error)
    offset, key = record.offset(), record.key()
    assert offset is not None
    assert isinstance(key, bytes)
    headers = record.headers() or []
    files.print_line(offset, key, record.value(), headers.items() if isinstance(headers, dict) else headers)
