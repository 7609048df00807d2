"""The endpoints that can be chosen, and their paths."""

from stator.settings.paths import PathSet

ENDPOINTS = {
    "metrics": PathSet(["/metrics"]),
    "monitor": PathSet(["/monitor", "/monitor/*"]),
    "config": PathSet(["/config"]),
    "status": PathSet(["/", "/status", "/status/*", "/assets/*"]),
}
ALL = tuple(ENDPOINTS)
# Paths that need no credentials, unless others are chosen.
OPEN_PATHS = ("/monitor", "/monitor/*")
