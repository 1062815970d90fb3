"""Tasks of the source half; a task's name in YAML is its file's name here."""
