"""Where the page is, and where its files are."""

from attrs import frozen

STATUS = "/status"


@frozen(eq=False, repr=False)
class Place:
    """Where the page is, and where its files are."""

    page: str
    assets: str
    root: str  # what leads from the page to where /metrics is

    @property
    def paths(self) -> tuple[str, str, str]:
        """The paths of the page, of its facts as JSON, and of its files, as Falcon writes them."""
        return self.page, STATUS, f"{self.assets}/{{name}}"


# In the program, which owns all paths, and inside an application.
ALONE = Place("/", "/assets", "")
EMBEDDED = Place("/status/page", "/status/assets", "../")
