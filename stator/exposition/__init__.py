"""Points to text, in each of Prometheus' formats."""
