"""BLAKE3 in plain Python, unkeyed, 32 bytes: after the paper's description. For small inputs; nothing is quick here."""

import struct

IV = (0x6A09E667, 0xBB67AE85, 0x3C6EF372, 0xA54FF53A, 0x510E527F, 0x9B05688C, 0x1F83D9AB, 0x5BE0CD19)
PERMUTATION = (2, 6, 3, 10, 7, 0, 4, 13, 1, 11, 12, 5, 9, 14, 15, 8)
CHUNK, BLOCK = 1024, 64
CHUNK_START, CHUNK_END, PARENT, ROOT = 1, 2, 4, 8
# Columns, then diagonals.
MIXED = ((0, 4, 8, 12), (1, 5, 9, 13), (2, 6, 10, 14), (3, 7, 11, 15),
         (0, 5, 10, 15), (1, 6, 11, 12), (2, 7, 8, 13), (3, 4, 9, 14))


def rotated(word, count):
    return (word >> count | word << (32 - count)) & 0xFFFFFFFF


def mix(state, places, x, y):
    a, b, c, d = places
    for word, first, second in ((x, 16, 12), (y, 8, 7)):
        state[a] = (state[a] + state[b] + word) & 0xFFFFFFFF
        state[d] = rotated(state[d] ^ state[a], first)
        state[c] = (state[c] + state[d]) & 0xFFFFFFFF
        state[b] = rotated(state[b] ^ state[c], second)


def compressed(chaining, block, counter, length, flags):
    words = list(struct.unpack("<16I", block.ljust(BLOCK, b"\0")))
    state = [*chaining, *IV[:4], counter & 0xFFFFFFFF, counter >> 32, length, flags]
    for _ in range(7):
        for number, places in enumerate(MIXED):
            mix(state, places, words[2 * number], words[2 * number + 1])
        words = [words[place] for place in PERMUTATION]
    return tuple(state[i] ^ state[i + 8] for i in range(8))


def of_chunk(data, counter, root):
    blocks = [data[at : at + BLOCK] for at in range(0, len(data), BLOCK)] or [b""]
    chaining = IV
    for number, block in enumerate(blocks):
        flags = CHUNK_START if number == 0 else 0
        if number == len(blocks) - 1:
            flags |= CHUNK_END | root
        chaining = compressed(chaining, block, counter, len(block), flags)
    return chaining


def of_tree(data, counter, root):
    if len(data) <= CHUNK:
        return of_chunk(data, counter, root)
    # The left side holds the largest power of two of whole chunks that leaves something for the right one.
    chunks = 1
    while chunks * 2 * CHUNK < len(data):
        chunks *= 2
    left = of_tree(data[: chunks * CHUNK], counter, 0)
    right = of_tree(data[chunks * CHUNK :], counter + chunks, 0)
    return compressed(IV, struct.pack("<16I", *left, *right), 0, BLOCK, PARENT | root)


def digest(data):
    return struct.pack("<8I", *of_tree(bytes(data), 0, ROOT))
