import pytest

from connector.kafka.record import Record, murmur2, partition_for, record_size_bytes


@pytest.mark.parametrize(
    ("text", "java"),
    [
        ("21", -973932308),
        ("foobar", -790332482),
        ("a-little-bit-long-string", -985981536),
        ("a-little-bit-longer-string", -1486304829),
        ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971),
        ("abc", 479470107),
    ],
)
def test_murmur2_is_that_of_the_java_client(text: str, java: int) -> None:
    assert murmur2(text.encode()) == java & 0xFFFFFFFF


def test_every_key_has_a_partition_of_the_topic() -> None:
    assert {partition_for(b"key-%d" % number, 50) for number in range(2_000)} == set(range(50))


def test_the_size_of_a_record_counts_key_value_and_headers() -> None:
    bare = Record("t", 0, b"", None)
    full = Record("t", 0, b"k" * 10, b"v" * 100, (("name", b"h" * 7),))

    assert record_size_bytes(full) - record_size_bytes(bare) >= 10 + 100 + 4 + 7


def test_the_last_of_two_headers_of_one_name_counts() -> None:
    record = Record("t", 0, b"k", b"v", (("a", b"1"), ("a", b"2")))

    assert record.header("a") == "2"
    assert record.header("b") is None
