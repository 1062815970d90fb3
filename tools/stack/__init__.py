"""The local stack without containers: Kafka, an OCI registry and NATS as processes of this machine.

    problem    the one error of this package
    steps      what a person sees while something takes time
    pins       which versions, read from the files that pin them
    cache      the binaries and jars, fetched once a machine
    probes     is it ready? asked in each server's own protocol
    process    is this pid still the process we started?
    server     one server: start, stop, kill, pause, resume
    kafka, registry, nats   how each is launched
    layout     the servers of `make up`: ports from the environment, data under `.stack/`

`make up`, `make down` and `make status` are `python -m tools.stack <verb>`; the system tests launch the same servers
on free ports (tests/system/servers.py). Standard library only, because it runs before anything else works.
"""
