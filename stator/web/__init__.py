"""/metrics, /monitor and /config as applications."""
