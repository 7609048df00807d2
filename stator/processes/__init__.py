"""The service's processes, and what the kernel says of each."""
