"""How fast and how small the product is, measured beside its peers on this machine: `make bench`.

Each file measures one thing of docs/performance.md, with public tools and the command as a user runs it. Rules.
(1) Pairs, A B A B …, never all of A and then all of B, so that a busy moment of the machine meets both; the medians
are of the pairs. (2) Equal work is checked in the run: what the peer wrote to disk is, byte for byte, what the records
hold. (3) Servers and files are on tmpfs: what is compared are programs, not disks.
"""
