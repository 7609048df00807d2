"""Makes compiled modules smaller."""

import struct

MAGIC = b"\x7fELF\x02\x01"


def trimmed(module: bytes) -> bytes:
    """A compiled module without what only debuggers and linkers read: symbols, debug sections, the table of sections.

    The dynamic loader reads segments alone, and linkers write all else behind them. So the file is cut after the last
    segment, whichever machine it is for. Field names and offsets are those of elf(5).

    Raises:
        ValueError: It is not a 64-bit, little-endian ELF file.
    """
    if not module.startswith(MAGIC):
        msg = "not a 64-bit, little-endian ELF file"
        raise ValueError(msg)
    (e_phoff,) = struct.unpack_from("<Q", module, 32)
    e_phentsize, e_phnum = struct.unpack_from("<HH", module, 54)
    end = e_phoff + e_phentsize * e_phnum
    for header in range(e_phoff, end, e_phentsize):
        (p_offset,) = struct.unpack_from("<Q", module, header + 8)
        (p_filesz,) = struct.unpack_from("<Q", module, header + 32)
        end = max(end, p_offset + p_filesz)
    kept = bytearray(module[:end])
    struct.pack_into("<Q", kept, 40, 0)  # e_shoff
    struct.pack_into("<HH", kept, 60, 0, 0)  # e_shnum, e_shstrndx
    return bytes(kept)
