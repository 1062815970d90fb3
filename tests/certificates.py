"""Certificates for servers of a test."""

import subprocess
from pathlib import Path


def self_signed(folder: Path, alternative_name: str) -> None:
    """cert.pem and key.pem in `folder`, for `DNS:…` or `IP:…`; its own authority and client, good for a day."""
    subprocess.run(
        [
            "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
            "-days", "1", "-subj", "/CN=a.test", "-addext", f"subjectAltName={alternative_name}",
            "-keyout", str(folder / "key.pem"), "-out", str(folder / "cert.pem"),
        ],
        check=True, capture_output=True, timeout=20,
    )  # fmt: skip
