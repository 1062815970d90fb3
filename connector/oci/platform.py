"""Which manifest of an index fits a platform. Pure.

Rules. (1) Attestations (`unknown/unknown`, or annotated as such) are no images. (2) Without a wish, the only image is
taken; of several, none, for guessing would make the records depend on the machine that reads. (3) With a wish,
operating system and architecture must be equal, and the variant where one is wished for; the first that fits wins.
(4) An entry without a platform fits only where nothing states one and it stands alone.
"""

import re

from msgspec import Struct

from connector.errors import ConfigError

_WORD = re.compile(r"[A-Za-z0-9._-]{1,64}")

# What a missing variant means, so that "linux/arm64" finds "linux/arm64/v8" and the reverse (containerd's rule).
_DEFAULT_VARIANT = {"arm64": "v8", "arm": "v7", "amd64": "v1"}
_ALIASES = {"x86_64": "amd64", "x86-64": "amd64", "aarch64": "arm64", "armhf": "arm"}


class Platform(Struct, frozen=True):
    """Operating system, architecture and perhaps variant, in the specification's words."""

    os: str
    architecture: str
    variant: str = ""

    def __str__(self) -> str:
        return "/".join(part for part in (self.os, self.architecture, self.variant) if part)

    @property
    def is_unknown(self) -> bool:
        """Whether it is the mark of an attestation."""
        return self.os == "unknown" and self.architecture == "unknown"

    def fits(self, wish: "Platform") -> bool:
        """Whether an image for this platform is what the wish asks for."""
        if (self.os, self.architecture) != (wish.os, wish.architecture):
            return False
        default = _DEFAULT_VARIANT.get(wish.architecture, "")
        return not wish.variant or (self.variant or default) == wish.variant


def parse_platform(text: str) -> Platform:
    """`os/architecture[/variant]` as a flow file holds it. Raises ConfigError BadValue."""
    parts = text.strip().lower().split("/")
    if len(parts) not in (2, 3) or not all(_WORD.fullmatch(part) for part in parts):
        raise ConfigError(
            reason="BadValue",
            doing=f"reading the platform {text[:80]!r}",
            cause="it is not os/architecture or os/architecture/variant",
            remedy="write it as linux/amd64 or linux/arm/v7 (operator)",
        )
    return Platform(parts[0], _ALIASES.get(parts[1], parts[1]), parts[2] if len(parts) == 3 else "")
