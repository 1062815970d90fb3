"""A reader by kafka-python, which is Python all the way down: one JSON line a record, until it is ended.

python -m tests.readers.programs.kafka_python BOOTSTRAP TOPIC ISOLATION FORMAT SCHEMA_REGISTRY
ISOLATION "" leaves what the client does by itself.
"""

import sys

from kafka import KafkaConsumer

from tests.readers.programs.python_files import Files

bootstrap, topic, isolation, format_, schema_registry = sys.argv[1:6]
files = Files(format_, schema_registry)
consumer = KafkaConsumer(
    topic,
    bootstrap_servers=bootstrap,
    auto_offset_reset="earliest",
    enable_auto_commit=False,
    **({"isolation_level": isolation} if isolation else {}),
)
for record in consumer:
    files.print_line(record.offset, record.key, record.value, record.headers)
