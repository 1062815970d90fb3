"""Writes two releases of the example artifact, 48 files each: `python examples/oci/make_artifact.py FOLDER`.

Release 2 changes three flows and a prompt, adds two files and removes two. Push one with oras:

    cd FOLDER/release-1
    oras push --plain-http 127.0.0.1:25000/your-org/your-flows:prod $(find . -type f | sort | cut -c3-)
"""

import sys
from pathlib import Path

REGIONS = ("eu", "us", "apac", "latam", "mea")
KINDS = ("orders", "invoices", "stock", "prices", "returns", "users")
LANGUAGES = ("de", "en", "es", "fr", "it", "pt")


def release(number: int) -> dict[str, str]:
    """The files of release 1 or 2: path → text."""
    files = {f"flows/{kind}_{region}.yaml": flow(kind, region, 1) for region in REGIONS for kind in KINDS}
    files |= {f"prompts/{language}/greeting.md": f"# Greeting\n\nlanguage: {language}\n" for language in LANGUAGES}
    files |= {f"policies/{kind}.rego": f"package {kind}\n\ndefault allow = false\n" for kind in KINDS}
    files |= {f"schemas/{kind}.json": f'{{"title": "{kind}", "type": "object"}}\n' for kind in KINDS}
    if number == 1:
        return files
    for kind in KINDS[:3]:
        files[f"flows/{kind}_eu.yaml"] = flow(kind, "eu", 2)
    files["prompts/de/greeting.md"] += "\nHallo!\n"
    del files["flows/users_mea.yaml"], files["policies/users.rego"]
    files["flows/a_new_file_name.yaml"] = flow("audit", "eu", 1)
    files["prompts/nl/greeting.md"] = "# Greeting\n\nlanguage: nl\n"
    return files


def flow(kind: str, region: str, version: int) -> str:
    """A flow file; its name is what becomes the key."""
    return f"flow:\n  name: {kind}.{region}\n  tasks:\n    - generate: {{name: tick, interval: {version * 30}s}}\n"


def write(folder: Path) -> None:
    """Both releases below the folder."""
    for number in (1, 2):
        for path, text in release(number).items():
            target = folder / f"release-{number}" / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text)


if __name__ == "__main__":
    write(Path(sys.argv[1]))
