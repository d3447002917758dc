#!/usr/bin/python3
"""Makes the test vectors of chapter 6: sidecars/NAME.idx with NAME.json, good ones with their stream, and index.json.

    make_sidecars.py             write them beside this script
    make_sidecars.py --check     say whether the files are what this script makes; exit 1 when not

As independent and deterministic as make.py, with a BLAKE3 of its own (blake3.py).
"""

import json
import os
import struct
import sys
import zlib

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)
import blake3  # noqa: E402
import make  # noqa: E402

GRANULE = 64 << 10
DISK = GRANULE + 1536
MAGIC, END_MAGIC = b"vmbkidx\n", b"vmbkend\n"
ZERO, KNOWN, UNKNOWN = 0, 1, 2

VECTORS = {}  # name -> {extension: bytes}
INDEX = {"good": [], "bad": []}


def chunk(kind, payload, sum_change=0):
    return kind + struct.pack("<II", len(payload), zlib.crc32(payload) ^ sum_change) + payload


def block(start, stored_at, plain_len, stored_len, plain_crc, stored_crc):
    return struct.pack("<QQIIII", start, stored_at, plain_len, stored_len, plain_crc, stored_crc)


def run(first, kind, count, sums=()):
    return struct.pack("<QII", first, count, kind) + struct.pack(f"<{len(sums)}I", *sums)


def sidecar(head, body, version=1):
    text = head if isinstance(head, bytes) else json.dumps(head).encode()
    out = MAGIC + struct.pack("<I", version) + body + text + struct.pack("<II", len(text), zlib.crc32(text))
    return out + blake3.digest(out) + END_MAGIC


def stream_digest(raw, meta_end, blocks):
    """The stream with each block's stored bytes replaced by their digest, and the meta frame at the end."""
    out, at = b"", meta_end
    for _, stored_at, _, stored_len, _, _ in blocks:
        out += raw[at:stored_at] + blake3.digest(raw[stored_at : stored_at + stored_len])
        at = stored_at + stored_len
    return blake3.digest(out + raw[at:] + raw[:meta_end])


def blocks_of(stream, raw):
    blocks = []
    for frame in (frame for frame in stream.frames if frame["kind"] == "data"):
        (stored_len,) = frame["stored"]
        stored = raw[frame["stored_at"] : frame["stored_at"] + stored_len]
        blocks.append((frame["start"], frame["stored_at"], frame["length"], stored_len, frame["crc32"], zlib.crc32(stored)))
    return blocks


def head_of(name, size, disk=DISK, **changed):
    head = {
        "writer": "make_sidecars.py",
        "stream": {"name": name, "size": size, "adler32": None, "digest": None},
        "disk": {"target": "vda", "virtual_size": disk},
        "point": {"checkpoint": "virtnbdbackup.0", "parent": None, "taken": 1795377786},
        "granule_size": GRANULE,
        "parent_sidecar": None,
        "files": [],
    }
    head.update(changed)
    return {key: value for key, value in head.items() if value != "absent"}


def good(name, about, head, blocks, runs, body=None, stream=None):
    """`runs`: first, kind, count, sums. `body`: the chunks where they are not one of each kind."""
    if body is None:
        body = b"".join(
            chunk(kind, b"".join(records))
            for kind, records in ((b"blks", [block(*b) for b in blocks]), (b"gran", [run(*r) for r in runs]))
            if records
        )
    raw = sidecar(head, body)
    expected = {
        "about": about,
        "size": len(raw),
        "digest": raw[-40:-8].hex(),
        "stream": stream is not None,
        "head": head,
        "blocks": [list(b) for b in blocks],
        "runs": [{"first": r[0], "kind": ["zero", "known", "unknown"][r[1]], "count": r[2], "crc32": list(r[3]) if len(r) > 3 else []} for r in runs],
    }
    INDEX["good"].append(name)
    VECTORS[name] = {"idx": raw, "json": (json.dumps(expected, indent=1) + "\n").encode()}
    if stream is not None:
        VECTORS[name]["data"] = stream
    return raw


def bad(name, about, raw, error):
    INDEX["bad"].append(name)
    text = json.dumps({"about": about, "error": error}, indent=1) + "\n"
    VECTORS[name] = {"idx": raw, "json": text.encode()}


def recorded(name, about, stream, runs, **changed):
    """A sidecar with its stream."""
    raw = stream.build()
    blocks = blocks_of(stream, raw)
    identity = {
        "name": f"{name}.data",
        "size": len(raw),
        "adler32": zlib.adler32(raw),
        "digest": stream_digest(raw, stream.at["frames"], blocks).hex(),
    }
    return good(name, about, head_of("", 0, stream=identity, **changed), blocks, runs, stream=raw)


def make_good():
    first, last = make.content(600, 1), make.content(700, 2)
    sums = [zlib.crc32(first.ljust(GRANULE, b"\0")), zlib.crc32(bytes(836) + last)]
    xml = b"<domain>\n</domain>\n"
    files = [{"name": "vmconfig.virtnbdbackup.0.xml", "size": len(xml), "blake3": blake3.digest(xml).hex()},
             {"name": "checkpoints/virtnbdbackup.0.xml", "size": 0, "blake3": blake3.digest(b"").hex()}]
    for level, name in ((None, "full"), (4, "full-lz4")):
        stream = make.Stream(level, virtual_size=DISK)
        stream.data(0, first).zero(600, DISK - 1300).data(DISK - 700, last)
        full = recorded(name, "A stream that stands alone, and all granules.", stream, [(0, KNOWN, 2, sums)], files=files)
    changed = make.content(512, 3)
    stream = make.Stream(None, virtual_size=DISK, checkpointName="virtnbdbackup.1", parentCheckpoint="virtnbdbackup.0",
                         incremental=True)
    stream.data(512, changed).data(GRANULE, make.content(1536, 4))
    point = {"checkpoint": "virtnbdbackup.1", "parent": "virtnbdbackup.0", "taken": 1795381386}
    recorded("increment", "One granule was changed in part, so nothing is known of it; the other as a whole.", stream,
             [(0, UNKNOWN, 1), (1, KNOWN, 1, [zlib.crc32(make.content(1536, 4))])], point=point,
             parent_sidecar=full[-40:-8].hex())
    good("raw-image", "A raw image has no blocks, no checksum file and no digest.", head_of("vdb.copy.data", DISK),
         [], [(0, ZERO, 1), (1, KNOWN, 1, [sums[1]])])
    good("nothing", "A disk of no bytes.", head_of("vda.full.data", 461, disk=0), [], [])
    good("large-disk", "16 TiB of zeros, in granules of 256 KiB.",
         head_of("vda.full.data", 461, disk=16 << 40, granule_size=256 << 10), [], [(0, ZERO, 1 << 26)])
    one, two = block(0, 100, 10, 10, 1, 1), block(10, 110, 10, 10, 2, 2)
    good("mixed-chunks", "Kinds in any order, one that nobody knows, an empty one; keys that nobody knows.",
         head_of("vda.full.data", 461, later={"key": 1}), [(0, 100, 10, 10, 1, 1), (10, 110, 10, 10, 2, 2)],
         [(0, ZERO, 1), (1, UNKNOWN, 1)],
         chunk(b"gran", run(0, ZERO, 1)) + chunk(b"blks", one) + chunk(b"next", b"later") + chunk(b"blks", b"")
         + chunk(b"blks", two) + chunk(b"gran", run(1, UNKNOWN, 1)))


def make_bad():
    head = head_of("vda.full.data", 4096)
    whole = sidecar(head, chunk(b"gran", run(0, ZERO, 2)))
    bad("empty", "An empty file.", b"", "not-a-sidecar")
    bad("only-magics", "Begins and ends as one, and is too short.", MAGIC + END_MAGIC, "not-a-sidecar")
    bad("other-magic", "Another first byte.", b"V" + whole[1:], "not-a-sidecar")
    bad("cut", "The last byte is missing.", whole[:-1], "not-a-sidecar")
    bad("version-2", "As whole as can be, of a later version.", sidecar(head, b"", version=2), "version")
    bad("version-flipped", "A damaged version: the digest tells.", whole[:8] + b"\3" + whole[9:], "digest")
    bad("chunk-flipped", "A byte of a chunk.", whole[:30] + b"\7" + whole[31:], "digest")
    bad("head-flipped", "A byte of the head.", whole.replace(b"vda.full", b"vdb.full"), "head-damaged")
    size = whole[:-48] + struct.pack("<I", 1 << 19) + whole[-44:]
    bad("head-too-long", "The head is said to be longer than the file.", size, "head-damaged")
    make_bad_heads(head)
    make_bad_records(head)


def make_bad_heads(head):
    def case(name, about, changed):
        bad(f"head-{name}", about, sidecar(changed, b""), "head")

    case("not-json", "The head is no JSON.", b"{")
    case("list", "The head is no object.", b"[]")
    for key in ("writer", "stream", "disk", "point", "granule_size", "files"):
        case(f"without-{key.replace('_', '-')}", f"No {key}.", {k: v for k, v in head.items() if k != key})
    for size in (0, 32 << 10, 96 << 10, 64 << 20):
        case(f"granule-{size}", "A size that no granule has.", {**head, "granule_size": size})
    case("size-negative", "A stream of -1 bytes.", {**head, "stream": {**head["stream"], "size": -1}})
    case("adler32-large", "More than 32 bits.", {**head, "stream": {**head["stream"], "adler32": 1 << 32}})
    case("digest-short", "31 bytes.", {**head, "parent_sidecar": "00" * 31})
    for name, path in (("absolute", "/etc/passwd"), ("upward", "../x"), ("deep", "a/b/c"), ("empty-name", "")):
        file = {"name": path, "size": 0, "blake3": "00" * 32}
        case(f"file-{name}", "A file that is not in the folder.", {**head, "files": [file]})


def make_bad_records(head):
    def case(name, about, body):
        bad(f"record-{name}", about, sidecar(head, body), "record")

    def blocks(name, about, *records):
        case(f"block-{name}", about, chunk(b"blks", b"".join(records)))

    def runs(name, about, *records):
        case(f"run-{name}", about, chunk(b"gran", b"".join(records)))

    zeros = run(0, ZERO, 2)
    case("chunk-sum", "A chunk whose CRC-32 differs.", chunk(b"gran", zeros, sum_change=1))
    case("chunk-long", "A chunk that reaches into the head.", b"gran" + struct.pack("<II", 100, 0) + zeros)
    case("chunk-huge", "A chunk of 4 GiB.", b"next" + struct.pack("<II", 0xFFFFFFFF, 0))
    case("chunk-cut", "Half a chunk head.", b"gran\0\0")
    blocks("odd", "A payload that is no multiple of 32.", block(0, 100, 1, 1, 0, 0), b"\0")
    blocks("empty", "A block of no bytes.", block(0, 100, 0, 1, 0, 0))
    blocks("past-disk", "A block that ends behind the disk.", block(DISK - 1, 100, 2, 2, 0, 0))
    blocks("past-stream", "A block that ends behind the stream.", block(0, 4095, 2, 2, 0, 0))
    blocks("overflow", "A block that passes 64 bits.", block((1 << 64) - 1, 100, 2, 2, 0, 0))
    blocks("overlap", "Two that share a byte of the disk.", block(0, 100, 2, 2, 0, 0), block(1, 102, 2, 2, 0, 0))
    blocks("stored-overlap", "Two that share a byte of the stream.", block(0, 100, 2, 2, 0, 0),
           block(2, 101, 2, 2, 0, 0))
    runs("empty", "A run of no granules.", run(0, ZERO, 0))
    runs("past-disk", "More granules than there are.", run(0, ZERO, 3))
    runs("overflow", "A first granule of 64 bits.", run((1 << 64) - 1, ZERO, 2))
    runs("overlap", "The same granule twice.", run(0, ZERO, 2), run(1, UNKNOWN, 1))
    runs("kind", "A kind that nobody knows.", run(0, 3, 1))
    runs("cut", "Fewer sums than granules.", run(0, KNOWN, 2, [1]))
    runs("many", "Four billion sums.", run(0, KNOWN, 0xFFFFFFFF, [1]))


def files():
    make_good()
    make_bad()
    out = {f"sidecars/{name}.{ext}": raw for name, parts in VECTORS.items() for ext, raw in parts.items()}
    out["sidecars/index.json"] = (json.dumps(INDEX, indent=1) + "\n").encode()
    return out


if __name__ == "__main__":
    sys.exit(make.write_or_check(files(), "make_sidecars.py", sys.argv[1:]))
