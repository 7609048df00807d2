"""The host's metrics, under node_exporter's names: one file a subject, one class a group of families."""
