from tests.chaos.checker import Violation
from tests.chaos.cluster import _java_hash
from tests.chaos.report import Row, table


def test_the_table_has_a_row_a_fault_and_a_line_of_sums_that_says_what_broke() -> None:
    held = Row("cut", 2, 5, 0, 0, 3.25)
    broken = Row("frozen", 1, 3, 1, 0, 9.0, (Violation("I1", "came twice"), Violation("I6", "went back")))

    lines = table([held, broken]).splitlines()

    assert [cell.strip() for cell in lines[2].split("|")[1:-1]] == ["cut", "2", "5", "0", "0", "3.2 s", "held"]
    assert "BROKEN: I1, I6" in lines[3]
    assert [cell.strip() for cell in lines[4].split("|")[1:-1]] == ["all", "3", "8", "1", "0", "9.0 s", "1 broken"]
    assert len({len(line) for line in lines}) == 1


def test_a_group_s_partition_is_found_as_the_broker_finds_it() -> None:
    # "abc".hashCode() is 96354, and "polygenelubricants" the well-known one whose hashCode is Integer.MIN_VALUE.
    assert _java_hash("abc") == 96354
    assert _java_hash("polygenelubricants") == 0
