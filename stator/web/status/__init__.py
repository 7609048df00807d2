"""The page that shows the state of the service, and the same facts as JSON."""
