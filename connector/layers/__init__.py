"""Bytes of layers → files; no network, no Kafka.

Public: `extract`, `needed_layers`, `ExtractOptions` and `File` of `extract`; `Content` and `SupportsOpen` of `content`;
`canonical_path` of `limits`; `PathFilter` and `MediaTypeFilter` of `path_filter`.
"""
