"""Everything the user writes: flow files, worker file, templates. Public: `load_flow`, `load_worker`."""
