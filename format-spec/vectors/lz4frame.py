"""LZ4 frames in plain Python, so that the vectors do not depend on any library's version or choices.

Written from the LZ4 frame and block format descriptions and the xxHash description. Small, not fast.
"""

import struct

MAGIC = 0x184D2204
BLOCK_SIZES = {64 << 10: 4, 256 << 10: 5, 1 << 20: 6, 4 << 20: 7}

_P1, _P2, _P3, _P4, _P5 = 2654435761, 2246822519, 3266489917, 668265263, 374761393
_MASK = 0xFFFFFFFF


def _rotl(value, count):
    return ((value << count) | (value >> (32 - count))) & _MASK


_ZERO_LANES = {}


def _lanes(data):
    """The four accumulators after all whole 16-byte stripes. Long runs of zeros are remembered."""
    whole = len(data) // 16
    lanes = [(_P1 + _P2) & _MASK, _P2, 0, (-_P1) & _MASK]
    if whole > 65536 and not any(data[:4096]) and data.count(0) == len(data):
        if whole not in _ZERO_LANES:
            known = max((n for n in _ZERO_LANES if n < whole), default=0)
            lanes = list(_ZERO_LANES.get(known, lanes))
            for place in range(4):
                lane = lanes[place]
                for _ in range(whole - known):
                    lane = (((lane << 13) | (lane >> 19)) & _MASK) * _P1 & _MASK
                lanes[place] = lane
            _ZERO_LANES[whole] = tuple(lanes)
        return list(_ZERO_LANES[whole])
    for stripe in struct.iter_unpack("<4I", data[: whole * 16]):
        for place in range(4):
            lanes[place] = _rotl((lanes[place] + stripe[place] * _P2) & _MASK, 13) * _P1 & _MASK
    return lanes


def xxh32(data):
    """xxHash, 32 bits, seed 0."""
    at = 0
    if len(data) >= 16:
        lanes = _lanes(data)
        value = sum(_rotl(lane, turn) for lane, turn in zip(lanes, (1, 7, 12, 18))) & _MASK
        at = len(data) // 16 * 16
    else:
        value = _P5
    value = (value + len(data)) & _MASK
    while at + 4 <= len(data):
        word = int.from_bytes(data[at : at + 4], "little")
        value = _rotl((value + word * _P3) & _MASK, 17) * _P4 & _MASK
        at += 4
    for byte in data[at:]:
        value = _rotl((value + byte * _P5) & _MASK, 11) * _P1 & _MASK
    value = (value ^ (value >> 15)) * _P2 & _MASK
    value = (value ^ (value >> 13)) * _P3 & _MASK
    return value ^ (value >> 16)


def _count(value):
    """The bytes that follow a nibble of 15."""
    return b"\xff" * (value // 255) + bytes([value % 255])


def _sequence(literals, offset=None, length=None):
    token = min(len(literals), 15) << 4
    out = _count(len(literals) - 15) if len(literals) >= 15 else b""
    out += literals
    if offset is not None:
        token |= min(length - 4, 15)
        out += struct.pack("<H", offset)
        if length - 4 >= 15:
            out += _count(length - 4 - 15)
    return bytes([token]) + out


def compress_block(data, history=b""):
    """One LZ4 block. Matches may reach back into `history`, the bytes before the block."""
    if len(data) > 4096 and data.count(data[0]) == len(data):
        return _sequence(data[:1], 1, len(data) - 6) + _sequence(data[-5:])
    text = history + data
    seen = {text[at : at + 4]: at for at in range(max(0, len(history) - 3))}
    out, at, done = b"", len(history), len(history)
    # The last match starts at least 12 bytes before the end of the block, the last 5 bytes are literals.
    while at < len(text) - 12:
        found = seen.get(text[at : at + 4])
        seen[text[at : at + 4]] = at
        if found is None or at - found > 65535:
            at += 1
            continue
        length = 4
        while at + length < len(text) - 5 and text[found + length] == text[at + length]:
            length += 1
        out += _sequence(text[done:at], at - found, length)
        at += length
        done = at
    return out + _sequence(text[done:])


def frame(data, block_size=4 << 20, independent=True, block_sums=True, content_sum=True, content_size=False):
    """One LZ4 frame."""
    flags = 1 << 6 | independent << 5 | block_sums << 4 | content_size << 3 | content_sum << 2
    descriptor = bytes([flags, BLOCK_SIZES[block_size] << 4])
    if content_size:
        descriptor += struct.pack("<Q", len(data))
    out = struct.pack("<I", MAGIC) + descriptor + bytes([xxh32(descriptor) >> 8 & 0xFF])
    for at in range(0, len(data), block_size):
        plain = data[at : at + block_size]
        block = compress_block(plain, b"" if independent else data[max(0, at - 65536) : at])
        head = len(block)
        if head >= len(plain):
            block, head = plain, len(plain) | 1 << 31
        out += struct.pack("<I", head) + block
        if block_sums:
            out += struct.pack("<I", xxh32(block))
    out += struct.pack("<I", 0)
    if content_sum:
        out += struct.pack("<I", xxh32(data))
    return out
