"""An application's own metrics, right over all workers."""
