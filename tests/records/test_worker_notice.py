"""Which workers' notices count, by the members that the group has now."""

from connector.records.worker_notice import WorkerNotice, living


def test_a_notice_counts_while_the_group_has_a_member_with_its_client_id() -> None:
    here, killed = WorkerNotice("one", "oci-sync-one", {}), WorkerNotice("two", "oci-sync-two", {})

    assert living([here, killed], ["oci-sync-one @ 10.0.0.1", "other @ 10.0.0.2"]) == (here,)


def test_workers_that_share_a_client_id_of_the_user_all_live() -> None:
    both = (WorkerNotice("one", "ours @ prod", {}), WorkerNotice("two", "ours @ prod", {}))

    assert living(both, ["ours @ prod @ 10.0.0.1", "ours @ prod @ 10.0.0.2"]) == both
