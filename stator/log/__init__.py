"""The log: records to lines, and lines to a descriptor."""
