"""The scripts and styles of the page, from the package, whether that is in a folder or in an archive."""

import gzip
import hashlib

import falcon.asgi
from attrs import field, frozen

from stator.exposition.negotiation import choose_encoding

CONTENT_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
}


@frozen(eq=False, repr=False)
class Asset:
    """A file of the page."""

    content_type: str
    body: bytes
    compressed: bytes
    tag: str  # the same for the same content, wherever it is served

    @classmethod
    def of(cls, name: str, body: bytes) -> "Asset":
        """Returns the file of a name, compressed too."""
        content_type = CONTENT_TYPES[name[name.rindex(".") :]]
        return cls(content_type, body, gzip.compress(body, mtime=0), hashlib.sha256(body).hexdigest()[:32])


def read_assets() -> dict[str, Asset]:
    """Returns all files by name."""
    from importlib.resources import files  # which takes long to import, and most pages are never asked for

    folder = files("stator.web.status") / "assets"
    return {each.name: Asset.of(each.name, each.read_bytes()) for each in folder.iterdir()}


@frozen(eq=False)
class Assets:
    """Answers with the files, which are read when first asked for; over ASGI with the suffix ``async``."""

    _read: dict[str, Asset] = field(factory=dict, init=False)

    def on_get(self, req: falcon.Request, resp: falcon.Response, name: str) -> None:
        """Answers; 304 where the client has the file."""
        if not self._read:
            self._read.update(read_assets())
        asset = self._read.get(name)
        if asset is None:
            raise falcon.HTTPRouteNotFound()
        is_packed = choose_encoding(req.get_header("Accept-Encoding", default="")) == "gzip"
        # A strong tag stands for one sequence of bytes: https://www.rfc-editor.org/rfc/rfc9110#section-8.8.3
        resp.etag = tag = f"{asset.tag}-gzip" if is_packed else asset.tag
        # Another version of Stator may serve the next request: the client asks whether its file is the newest.
        resp.cache_control = ["no-cache"]
        resp.set_header("Vary", "Accept-Encoding")
        if {tag, "*"} & {*(req.if_none_match or ())}:
            resp.status = falcon.HTTP_304
            return
        resp.content_type = asset.content_type
        resp.data = asset.compressed if is_packed else asset.body
        if is_packed:
            resp.set_header("Content-Encoding", "gzip")

    async def on_get_async(self, req: falcon.asgi.Request, resp: falcon.asgi.Response, name: str) -> None:
        """Answers in the same way."""
        self.on_get(req, resp, name)

    on_head, on_head_async = on_get, on_get_async
