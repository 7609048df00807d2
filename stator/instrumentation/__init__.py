"""An application's requests, counted, timed and logged, and its own metrics, right over all workers."""
