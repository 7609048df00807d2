"""Reads the bodies of answers, none of which is longer than it may be."""

import zlib
from http.client import HTTPException, HTTPResponse


def read_body(response: HTTPResponse, accepted: str, most: int) -> bytes:
    """Returns a body, decompressed where `accepted` is gzip; raises HTTPException for one of more than `most` bytes."""
    encoding = response.headers.get("Content-Encoding", "identity").lower()
    if encoding not in ("identity", accepted):
        msg = f"the answer has an encoding that was not asked for: {encoding}"
        raise HTTPException(msg)
    too_long = HTTPException(f"the answer is longer than {most} bytes")
    if response.length is not None and response.length > most:
        raise too_long
    # Only without a limit does http.client report an answer that is shorter than announced.
    body = response.read(most + 1) if response.length is None else response.read()
    if encoding == "gzip" and len(body) <= most:
        body = _unpacked(body, most)
    if len(body) > most:
        raise too_long
    return body


def _unpacked(body: bytes, most: int) -> bytes:
    """Returns what was compressed, without more than one byte beyond `most`."""
    unpacker = zlib.decompressobj(wbits=31)  # the gzip format
    try:
        unpacked = unpacker.decompress(body, most + 1)
    except zlib.error as error:
        msg = f"the answer can't be decompressed: {error}"
        raise HTTPException(msg) from error
    if not unpacker.eof and len(unpacked) <= most:
        msg = "the answer ends before its compressed data does"
        raise HTTPException(msg)
    if unpacker.unused_data:
        msg = "the answer goes on after its compressed data"
        raise HTTPException(msg)
    return unpacked
