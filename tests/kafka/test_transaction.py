import pytest

from connector.errors import OutputError
from connector.kafka.record import Record
from connector.kafka.transaction import check_sizes


def test_sizes_are_counted_with_key_and_headers() -> None:
    records = [Record("t", 0, b"k", b"v" * 100, (("h", b"x"),)), Record("t", 0, b"k2", None)]

    count, size = check_sizes(records, {"t": 1_000})

    assert count == 2
    assert 100 < size < 1_000


def test_a_record_over_the_topics_limit_names_the_file_both_numbers_and_the_command() -> None:
    records = [Record("small", 0, b"reg/a:1#big.yaml", b"v" * 5_000)]

    with pytest.raises(OutputError) as caught:
        check_sizes(records, {"small": 4_000})

    text = str(caught.value)
    assert caught.value.reason == "RecordTooLarge"
    assert "big.yaml" in text
    assert "max.message.bytes=4000" in text
    assert "--add-config max.message.bytes=1048576" in text


def test_a_topic_whose_limit_is_hidden_is_left_to_the_broker() -> None:
    assert check_sizes([Record("t", 0, b"k", b"v" * 5_000)], {"t": None})[0] == 1
