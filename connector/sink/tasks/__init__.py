"""The tasks of the sink half; the word in the flow file is the name of the module. They never import one another."""
