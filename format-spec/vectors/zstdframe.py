"""zstd frames in plain Python, so that the vectors do not depend on any library's version or choices.

Written from RFC 8878 and the xxHash description. Makes raw and repeated (RLE) blocks only; one frame with a block that
is really compressed is quoted in make.py.
"""

import struct

MAGIC = 0xFD2FB528
BLOCK = 128 << 10  # the longest content of one block

_P1, _P2, _P3, _P4, _P5 = (
    11400714785074694791,
    14029467366897019727,
    1609587929392839161,
    9650029242287828579,
    2870177450012600261,
)
_MASK = (1 << 64) - 1


def _rotl(value, count):
    return ((value << count) | (value >> (64 - count))) & _MASK


def _round(lane, word):
    return _rotl((lane + word * _P2) & _MASK, 31) * _P1 & _MASK


def xxh64(data):
    """xxHash, 64 bits, seed 0."""
    whole = len(data) // 32 * 32
    if whole:
        lanes = [(_P1 + _P2) & _MASK, _P2, 0, (-_P1) & _MASK]
        for stripe in struct.iter_unpack("<4Q", data[:whole]):
            lanes = [_round(lane, word) for lane, word in zip(lanes, stripe)]
        value = sum(_rotl(lane, turn) for lane, turn in zip(lanes, (1, 7, 12, 18))) & _MASK
        for lane in lanes:
            value = ((value ^ _round(0, lane)) * _P1 + _P4) & _MASK
    else:
        value = _P5
    value = (value + len(data)) & _MASK
    at = whole
    while at + 8 <= len(data):
        word = int.from_bytes(data[at : at + 8], "little")
        value = (_rotl(value ^ _round(0, word), 27) * _P1 + _P4) & _MASK
        at += 8
    if at + 4 <= len(data):
        word = int.from_bytes(data[at : at + 4], "little")
        value = (_rotl(value ^ (word * _P1 & _MASK), 23) * _P2 + _P3) & _MASK
        at += 4
    for byte in data[at:]:
        value = _rotl(value ^ (byte * _P5 & _MASK), 11) * _P1 & _MASK
    value = (value ^ (value >> 33)) * _P2 & _MASK
    value = (value ^ (value >> 29)) * _P3 & _MASK
    return value ^ (value >> 32)


def frame(content, checksum=True, sized=True, claimed=None, dictionary=None, block=BLOCK):
    """One frame. `sized`: with its content's length; else with a window. `claimed`: another length than the real one."""
    descriptor = (4 if checksum else 0) | (0xA0 if sized else 0) | (1 if dictionary is not None else 0)
    out = bytearray(struct.pack("<IB", MAGIC, descriptor))
    if not sized:
        out.append(7 << 3)  # a window of 128 KiB
    if dictionary is not None:
        out.append(dictionary)
    if sized:
        out += struct.pack("<I", len(content) if claimed is None else claimed)
    cuts = range(0, len(content), block) if content else [0]
    for at in cuts:
        part = content[at : at + block]
        same = len(part) > 1 and part.count(part[:1]) == len(part)
        last = at + block >= len(content)
        out += (len(part) << 3 | (2 if same else 0) | last).to_bytes(3, "little")
        out += part[:1] if same else part
    if checksum:
        out += struct.pack("<I", xxh64(content) & 0xFFFFFFFF)
    return bytes(out)
