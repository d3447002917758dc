#!/usr/bin/python3
"""Makes the test vectors: NAME.data with NAME.json, in good/ and bad/, and index.json.

    make.py             write them where this script is
    make.py --check     say whether the files are what this script makes; exit 1 when not
    make.py DIR         write them elsewhere

Independent of the project's own code, and deterministic: plain Python, its own LZ4 and zstd (lz4frame.py,
zstdframe.py), no clock.
README.md beside it says what the JSON means.
"""

import json
import os
import struct
import sys
import zlib

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import lz4frame  # noqa: E402
import zstdframe  # noqa: E402

HERE = os.path.dirname(os.path.abspath(__file__))
MIB = 1 << 20
PIECE = 32 * MIB  # longest content of one compressed frame
CRLF = b"\r\n"
HEADER = 40

VECTORS = {}  # (folder, name) -> (bytes, expectation)


def header(kind, start, length):
    return b"%s %016x %016x\r\n" % (kind.encode(), start, length)


def content(length, seed):
    """Bytes that look like nothing, compress badly, and are the same everywhere."""
    out, state = bytearray(), seed
    for _ in range(length):
        state = (state * 1103515245 + 12345) & 0x7FFFFFFF
        out.append(state >> 16 & 0xFF)
    return bytes(out)


def words(length, seed):
    """Bytes that compress."""
    return b"".join(b"%s-%06d " % (b"block", (seed + n) % 1000000) for n in range(length // 13 + 1))[:length]


def meta_fields(level, virtual_size, data_size, **changed):
    fields = {
        "virtualSize": virtual_size,
        "dataSize": data_size,
        "date": "2026-11-22T20:02:27.003979",
        "diskName": "vda",
        "diskFormat": "qcow2",
        "checkpointName": "virtnbdbackup.0",
        "compressed": False if level is None else level,
        "compressionMethod": "lz4",
        "parentCheckpoint": "",
        "incremental": False,
        "streamVersion": 2,
    }
    for key, value in changed.items():
        if value is None:
            del fields[key]
        else:
            fields[key] = value
    return fields


class Stream:
    """One stream and what a reader must make of it."""

    def __init__(self, level=None, virtual_size=MIB, compressed=None, zstd=False, **changed):
        if zstd:
            changed = {"compressionMethod": "zstd", "streamVersion": 3, **changed}
        self.level, self.virtual_size, self.changed = level, virtual_size, changed
        # Whether payloads are compressed frames; follows from the level but for a few old forms.
        self.compressed = level is not None if compressed is None else compressed
        self.codec = zstdframe if zstd else lz4frame
        self.items = []

    def data(self, start, plain, pieces=None, **form):
        """`pieces`: stored forms to use instead of this script's frames. `form`: how those are made."""
        if self.compressed and pieces is None:
            cuts = range(0, len(plain), PIECE) if plain else [0]
            pieces = [self.codec.frame(plain[at : at + PIECE], **form) for at in cuts]
        self.items.append(("data", start, plain, pieces or [plain]))
        return self

    def zero(self, start, length):
        self.items.append(("zero", start, length, None))
        return self

    def entries(self):
        """The trailer."""
        lens = [(len(item[2]), [len(piece) for piece in item[3]]) for item in self.items if item[0] == "data"]
        return [lens[0] if plain < PIECE else {str(sum(lens)): lens} for plain, lens in lens]

    def build(self, json_text=None, pad=0, data_size=None, trailer=None):
        """Returns the bytes. Offsets of its parts are in `self.at` afterwards, the frames in `self.frames`.

        `json_text` makes the meta text of its fields; `pad` adds blanks before its last line; `data_size` and
        `trailer` replace the right ones.
        """
        total = sum(len(item[2]) for item in self.items if item[0] == "data")
        self.fields = meta_fields(
            self.level, self.virtual_size, total if data_size is None else data_size, **self.changed
        )
        text = (json_text or (lambda fields: json.dumps(fields, indent=4)))(self.fields)
        text = text if isinstance(text, bytes) else text.encode()
        if pad:
            text = text[:-2] + b" " * pad + text[-2:]
        out = bytearray(header("meta", 0, len(text)) + text + CRLF)
        self.at = {"meta": 0, "text": HEADER, "text_end": HEADER + len(text), "frames": len(out)}
        self.frames = []
        for kind, start, what, pieces in self.items:
            length = len(what) if kind == "data" else what
            record = {"kind": kind, "start": start, "length": length, "header_at": len(out)}
            out += header(kind, start, length)
            if kind == "data":
                record["stored_at"] = len(out)
                record["stored"] = [len(piece) for piece in pieces]
                record["crc32"] = zlib.crc32(what)
                out += b"".join(pieces) + CRLF
            self.frames.append(record)
        self.at["stop"] = len(out)
        out += header("stop", 0, 0)
        self.trailer = None
        if self.compressed:
            text = json.dumps(self.entries()) if trailer is None else trailer
            self.trailer = {"at": len(out), "length": len(text)}
            self.at["trailer"], self.at["comp"] = len(out), len(out) + len(text) + 2
            out += text.encode() + CRLF + header("comp", 0, len(text))
        self.at["end"] = len(out)
        return bytes(out)

    def meta(self):
        """The meta fields as every reader must understand them, old forms included."""
        fields = self.fields
        level = fields.get("compressed", False)
        return {
            "virtualSize": fields["virtualSize"],
            "dataSize": fields["dataSize"],
            "date": fields.get("date", ""),
            "diskName": fields.get("diskName", ""),
            "diskFormat": fields.get("diskFormat", ""),
            "checkpointName": fields["checkpointName"],
            "compressed": None if level is False else 1 if level is True else level,
            "parentCheckpoint": fields.get("parentCheckpoint", ""),
            "incremental": fields["incremental"],
            "streamVersion": fields.get("streamVersion", fields.get("stream-version", 1)),
        }


def good(name, about, stream, **how):
    raw = stream.build(**how)
    expected = {
        "about": about,
        "result": "good",
        "size": len(raw),
        "adler32": zlib.adler32(raw),
        "meta": stream.meta(),
        "coding": ("zstd" if stream.codec is zstdframe else "lz4") if stream.compressed else "plain",
        "frames": stream.frames,
        "trailer": stream.trailer,
    }
    VECTORS["good", name] = raw, expected


def bad(name, about, raw, code, at, frame=None, frames=None, grammar="refuses", lost=None):
    """`frames`: those that can still be read. `lost`: the disk range whose content the damage takes."""
    expected = {
        "about": about,
        "result": "bad",
        "error": {"code": code, "at": at, "frame": frame, "disk": lost},
        "frames": frames or [],
        "grammar": grammar,
    }
    assert ("bad", name) not in VECTORS, name
    VECTORS["bad", name] = raw, expected


def put(raw, at, new):
    """`raw` with the bytes at `at` replaced, length unchanged."""
    assert raw[at : at + len(new)] != new
    return raw[:at] + new + raw[at + len(new) :]


# --- good -----------------------------------------------------------------------------------------------------


def plain():
    """An ordinary uncompressed full."""
    return (
        Stream().zero(0, 8192).data(8192, content(4096, 1)).data(12288, content(512, 2)).zero(12800, MIB - 12800)
    )


def small_lz4(level=4):
    """An ordinary compressed full."""
    return (
        Stream(level).data(0, words(8192, 1)).zero(8192, 65536).data(73728, content(1000, 3)).zero(74728, MIB - 74728)
    )


def make_good():
    good("plain", "Version 2, uncompressed: data and zero frames that cover the disk.", plain())
    good("plain-version-1", "Version 1 has no compression and says nothing of it.", version_1(streamVersion=1))
    good("plain-no-version", "No version at all is version 1.", version_1(streamVersion=None))
    good("plain-old-version-key", "The version under its older name.",
         version_1(streamVersion=None, **{"stream-version": 1}))
    good("plain-no-frames", "No frame and stop at once: the place of a disk that did not exist yet.", Stream())
    good("plain-disk-of-nothing", "A disk of no bytes.", Stream(virtual_size=0))
    good("plain-zeros", "A disk that was never written.", Stream().zero(0, MIB))
    good("plain-padded", "Blanks before the last line of the meta text: room for a number known last.",
         plain(), pad=17)
    good("plain-other-json", "Meta text in another order and form, with keys nobody knows and text outside ASCII.",
         plain(), json_text=other_json)
    good("plain-escapes", "Escapes in the meta text.",
         Stream(diskName='v"d\\a', date="\u00e9\U0001f600\n").data(0, b"x"))
    good("plain-odd-sizes", "Nothing is a multiple of anything, and ranges that no frame names lie between.",
         Stream(virtual_size=1000003).data(0, b"\x00").data(513, content(511, 4)).zero(1025, 3)
         .data(1000000, b"\r\n\x00"))
    good("plain-increment", "An increment: frames name some ranges only.",
         Stream(incremental=True, checkpointName="virtnbdbackup.1", parentCheckpoint="virtnbdbackup.0")
         .data(4096, content(4096, 5)).data(65536, bytes(512)))
    good("plain-payload-like-frames", "Content that looks like the format itself.",
         Stream().data(0, header("stop", 0, 0) + b"[]\r\n" + header("comp", 0, 2))
         .data(4096, CRLF + header("data", 0, 1) + b"x\r\n" + header("comp", 0, 2)))
    end = (1 << 63) - 1
    good("plain-far-end", "Numbers that need all bits of a signed 64-bit integer.",
         Stream(virtual_size=end).data(0, b"first").zero(5, end - 9).data(end - 4, b"last"))
    end = (1 << 64) - 1
    good("plain-last-offset", "Data up to the last offset that 64 bits can name.",
         Stream(virtual_size=end).data(end - 10, b"0123456789"))
    good("plain-level-0", "Level 0 and no trailer: the file decides, it is uncompressed.",
         Stream(0, compressed=False).data(0, content(100, 6)))
    good("lz4", "Version 2, compressed: every data frame is one LZ4 frame.", small_lz4())
    good("lz4-no-frames", "A compressed stream without data has an empty trailer.", Stream(4))
    good("lz4-zeros", "Zero frames only: nothing for the trailer.", Stream(4).zero(0, MIB))
    good("lz4-increment", "A compressed increment that writes zeros as data.",
         Stream(4, incremental=True, checkpointName="virtnbdbackup.12", parentCheckpoint="virtnbdbackup.11")
         .data(0, bytes(65536)).data(MIB - 512, words(512, 9)))
    good("lz4-level-0", "Level 0 with a trailer: the file decides, it is compressed.",
         Stream(0, compressed=True).data(0, words(500, 7)))
    good("lz4-level-true", "Compressed, from a time before there were levels.",
         Stream(True, compressed=True).data(0, words(500, 8)))
    good("lz4-padded", "Padding does not depend on compression.", small_lz4(1), pad=40)
    good("lz4-trailer-blanks", "Other blanks in the trailer.", small_lz4(),
         trailer=" [ %d ,\n%d\t]" % tuple(small_lz4().entries()))
    big = words(150000, 10)
    good("lz4-forms", "LZ4 frames with and without checksums and size, linked and independent blocks, stored blocks.",
         Stream(16, virtual_size=2 * MIB)
         .data(0, big)
         .data(150000, big, block_size=64 << 10)
         .data(300000, big, block_size=64 << 10, independent=False)
         .data(450000, big, block_size=256 << 10, block_sums=False)
         .data(600000, big, block_size=64 << 10, content_sum=False)
         .data(750000, big, block_sums=False, content_sum=False, independent=False)
         .data(900000, big, content_size=True)
         .data(1050000, content(70000, 11), block_size=64 << 10)
         .data(1120000, b"\x00"))
    good("lz4-one-byte-less-than-32-mib", "The longest data frame whose trailer entry is a plain number.",
         Stream(1, virtual_size=PIECE).data(0, bytes(PIECE - 1)).data(PIECE - 1, b"x"))
    good("lz4-32-mib", "The shortest data frame whose trailer entry lists pieces: there is one.",
         Stream(1, virtual_size=64 * MIB).data(512, bytes(PIECE)).data(PIECE + 512, b"x"))
    good("lz4-two-pieces", "A data frame of 32 MiB and 3 bytes in two pieces.",
         Stream(1, virtual_size=64 * MIB).zero(0, 7).data(7, bytes(PIECE) + b"abc").zero(PIECE + 10, 100))


# words(1000, 30), compressed by the program zstd 1.5.4 at level 19 with a checksum.
ZSTD_WORDS = bytes.fromhex(
    "28b52ffd64e80205030022061010c0b70100bcf8f72291dd9b7670f48312677572eb8ac4b33ab942249ed5c94d917856271745e2599ddc"
    "13896775724d249ed5c92d9178562783be6d4321c78c4ca810e00dfb06e0e7105604c80781e176449e541f11b9a44e7be1a6148cf2b20f"
)


def small_zstd():
    """An ordinary zstd full."""
    return (
        Stream(3, zstd=True).data(0, words(1000, 30), pieces=[ZSTD_WORDS]).zero(1000, 65536)
        .data(73728, content(1000, 3)).zero(74728, MIB - 74728)
    )


def make_good_zstd():
    good("zstd", "Version 3: every data frame is one zstd frame.", small_zstd())
    good("zstd-no-frames", "A stream without data has an empty trailer.", Stream(3, zstd=True))
    good("zstd-padded", "Padding does not depend on compression.", small_zstd(), pad=40)
    good("zstd-increment", "An increment that writes zeros as data.",
         Stream(19, zstd=True, incremental=True, checkpointName="virtnbdbackup.12",
                parentCheckpoint="virtnbdbackup.11")
         .data(0, bytes(65536)).data(MIB - 512, words(512, 9)))
    text = words(150000, 10)
    good("zstd-forms", "zstd frames with and without checksum and size; raw and repeated blocks, an empty last one.",
         Stream(1, zstd=True)
         .data(0, text)
         .data(150000, text, checksum=False)
         .data(300000, text, sized=False)
         .data(450000, text, sized=False, checksum=False, block=1000)
         .data(600000, bytes(300000))
         .data(900000, b"x"))


def version_1(**changed):
    """An increment of old times. `None` takes a field away."""
    stream = Stream(incremental=True, parentCheckpoint="virtnbdbackup.0", compressionMethod=None, **changed)
    stream.changed["compressed"] = None
    return stream.data(512, content(512, 12)).zero(1024, 512)


def other_json(fields):
    reordered = dict(sorted(fields.items(), reverse=True))
    reordered["later"] = {"nested": [1, None, "\u00fc"]}
    return json.dumps(reordered, ensure_ascii=False, separators=(",", ":"))


# --- bad ------------------------------------------------------------------------------------------------------


def make_bad():
    bad_zstd()
    bad_meta()
    bad_cuts()
    bad_frames()
    bad_trailers()
    bad_payloads()


def bad_meta():
    stream = plain()
    raw = stream.build()
    no_stream = [
        ("empty-file", "A file of no bytes.", b""),
        ("half-a-header", "A file shorter than one header.", raw[:39]),
        ("no-stream", "Something else, long enough.", bytes(4096)),
        ("first-frame-data", "A stream must begin with its meta frame.", raw[stream.at["frames"] :]),
        ("meta-kind-upper-case", "Kinds are lower case.", put(raw, 0, b"META")),
        ("meta-header-line-end", "A header ends with CR LF.", put(raw, 38, b"\n\n")),
    ]
    for name, about, damaged in no_stream:
        bad(name, about, damaged, "not-a-stream", 0)
    bad("meta-start", "The start of the meta frame is 0.", put(raw, 5, b"%016x" % 1), "not-a-stream", 0,
        grammar="accepts")
    bad("meta-length-huge", "A length that no meta text has must not be allocated.", put(raw, 22, b"f" * 16),
        "meta-too-long", 22)
    bad("meta-length-short", "The meta text does not end where its length says.",
        put(raw, 22, b"%016x" % (stream.at["text_end"] - HEADER - 1)), "no-line-end", stream.at["text_end"] - 1)
    bad("meta-line-end", "The meta text ends with CR LF.", put(raw, stream.at["text_end"], b"\n\n"),
        "no-line-end", stream.at["text_end"])
    texts = [
        ("meta-not-json", "Text that is no JSON.", "meta-not-json", lambda f: json.dumps(f)[:-1]),
        ("meta-two-values", "JSON followed by something.", "meta-not-json", lambda f: json.dumps(f) + "{}"),
        ("meta-bad-utf-8", "JSON is UTF-8.", "meta-not-json",
         lambda f: json.dumps(f).encode().replace(b"vda", b"v\xffa")),
        ("meta-list", "JSON, but no object.", "meta-not-an-object", lambda f: json.dumps([f])),
        ("meta-version-4", "A version from later.", "meta-version",
         lambda f: json.dumps({**f, "streamVersion": 4})),
        ("meta-version-3-plain", "Version 3 is zstd.", "meta-field",
         lambda f: json.dumps({**f, "streamVersion": 3, "compressionMethod": "zstd"})),
        ("meta-version-3-lz4", "Version 3 is zstd.", "meta-field",
         lambda f: json.dumps({**f, "streamVersion": 3, "compressed": 1})),
        ("meta-version-2-zstd", "zstd needs version 3.", "meta-field",
         lambda f: json.dumps({**f, "compressionMethod": "zstd", "compressed": 1})),
        ("meta-zstd-level-0", "zstd has levels from 1 on.", "meta-field",
         lambda f: json.dumps({**f, "streamVersion": 3, "compressionMethod": "zstd", "compressed": 0})),
        ("meta-method-unknown", "A method from later.", "meta-field",
         lambda f: json.dumps({**f, "compressionMethod": "other", "compressed": 1})),
        ("meta-version-0", "A version that never was.", "meta-version",
         lambda f: json.dumps({**f, "streamVersion": 0})),
        ("meta-version-text", "A version that is no number.", "meta-field",
         lambda f: json.dumps({**f, "streamVersion": "2"})),
        ("meta-size-negative", "A disk of less than nothing.", "meta-field",
         lambda f: json.dumps({**f, "virtualSize": -1})),
        ("meta-size-huge", "A size past 64 bits.", "meta-field",
         lambda f: json.dumps({**f, "virtualSize": 1 << 64})),
        ("meta-size-fraction", "A size with a point.", "meta-field",
         lambda f: json.dumps({**f, "virtualSize": float(MIB)})),
        ("meta-size-missing", "No size.", "meta-field", lambda f: json.dumps(without(f, "virtualSize"))),
        ("meta-data-size-text", "A number as text.", "meta-field",
         lambda f: json.dumps({**f, "dataSize": str(f["dataSize"])})),
        ("meta-data-size-missing", "No data size.", "meta-field", lambda f: json.dumps(without(f, "dataSize"))),
        ("meta-checkpoint-missing", "Nothing says which point it is.", "meta-field",
         lambda f: json.dumps(without(f, "checkpointName"))),
        ("meta-checkpoint-empty", "An empty name of the point.", "meta-field",
         lambda f: json.dumps({**f, "checkpointName": ""})),
        ("meta-incremental-text", "True as text.", "meta-field",
         lambda f: json.dumps({**f, "incremental": "true"})),
        ("meta-incremental-missing", "Nothing says whether it needs a parent.", "meta-field",
         lambda f: json.dumps(without(f, "incremental"))),
        ("meta-level-text", "The level as text.", "meta-field", lambda f: json.dumps({**f, "compressed": "4"})),
        ("meta-level-negative", "A level below 0.", "meta-field", lambda f: json.dumps({**f, "compressed": -1})),
    ]
    for name, about, code, text in texts:
        grammar = "refuses" if name == "meta-bad-utf-8" else "accepts"
        bad(name, about, plain().build(json_text=text), code, HEADER, grammar=grammar)


def without(fields, key):
    return {name: value for name, value in fields.items() if name != key}


def bad_cuts():
    """Both forms, cut off inside each part."""
    stream = plain()
    raw = stream.build()
    at, frames = stream.at, stream.frames
    size = stream.virtual_size
    data, more = frames[1], frames[2]
    bad("cut-in-meta-text", "The file ends inside the meta text.", raw[:100], "cut-off", HEADER)
    bad("cut-after-meta-text", "The file ends before the line end of the meta text.", raw[: at["text_end"]],
        "cut-off", HEADER)
    bad("cut-after-meta", "No frame, not even a stop.", raw[: at["frames"]], "cut-off", at["frames"], 0, [],
        lost=[0, size])
    bad("cut-in-header", "The file ends inside a header.", raw[: more["header_at"] + 20], "cut-off",
        more["header_at"], 2, frames[:2], lost=[12288, size])
    bad("cut-after-header", "The file ends after a header.", raw[: data["stored_at"]], "cut-off",
        data["stored_at"], 1, frames[:1], lost=[8192, size])
    bad("cut-in-payload", "The file ends inside content.", raw[: data["stored_at"] + 4000], "cut-off",
        data["stored_at"], 1, frames[:1], lost=[8192, size])
    bad("cut-after-payload", "The file ends before the line end of content.", raw[: data["stored_at"] + 4097],
        "cut-off", data["stored_at"], 1, frames[:1], lost=[8192, size])
    bad("cut-before-stop", "All frames are there but stop.", raw[: at["stop"]], "cut-off", at["stop"], 4, frames)
    bad("cut-in-stop", "The file ends inside stop.", raw[:-1], "cut-off", at["stop"], 4, frames)
    stream = small_lz4()
    raw = stream.build()
    at = stream.at
    frame = stream.frames[0]
    cuts = [
        ("header", frame["header_at"] + 11), ("payload", frame["stored_at"] + 50),
        ("before-stop", at["stop"]), ("stop", at["stop"] + 30), ("after-stop", at["trailer"]),
        ("trailer", at["trailer"] + 4), ("before-comp", at["comp"]), ("comp", at["end"] - 1),
    ]
    for part, cut in cuts:
        # The end of a compressed stream is looked at first. Too little is left for one: reported at the file's end.
        place = cut if cut < at["frames"] + HEADER + 4 + HEADER else cut - HEADER
        bad("lz4-cut-" + part, "A compressed stream that ends early has no trailer.", raw[:cut],
            "trailer-missing", place)


def bad_frames():
    stream = plain()
    raw = stream.build()
    at, frames = stream.at, stream.frames
    zero, data, more, last = frames
    size = stream.virtual_size

    def damaged(name, about, frame, offset, new, code, grammar="refuses", place=None):
        start = frames[frame]["start"]
        where = frames[frame]["header_at"]
        bad(name, about, put(raw, where + offset, new), code, where if place is None else place, frame,
            frames[:frame], grammar=grammar, lost=[start, size])

    damaged("frame-unknown-kind", "A kind from later, or damage: nobody can know how long it is.", 1, 0, b"dato",
            "unknown-kind")
    damaged("frame-no-blank", "Fields are separated by one blank.", 1, 4, b"_", "header")
    damaged("frame-second-blank", "Fields are separated by one blank.", 1, 21, b"\t", "header")
    damaged("frame-line-end", "A header ends with CR LF.", 1, 38, b" \n", "header")
    damaged("frame-upper-case", "Hex digits are lower case.", 3, 22, b"%016X" % (MIB - 12800), "header", "accepts")
    damaged("frame-sign", "Numbers have no sign.", 1, 5, b"+000000000002000", "header", "accepts")
    damaged("frame-no-digit", "Numbers have hex digits.", 1, 5, b"000000000000g000", "header")
    damaged("frame-meta-again", "There is one meta frame.", 1, 0, b"meta", "misplaced")
    damaged("frame-comp-early", "comp closes the trailer and stands nowhere else.", 1, 0, b"comp", "misplaced")
    damaged("frame-data-empty", "A data frame holds at least one byte.", 1, 22, b"%016x" % 0, "empty-frame",
            "refuses")
    damaged("frame-zero-empty", "A zero frame covers at least one byte.", 0, 22, b"%016x" % 0, "empty-frame",
            "accepts")
    damaged("frame-overlap", "A frame begins before the one before it ends.", 1, 5, b"%016x" % 8191,
            "out-of-order", "accepts")
    damaged("frame-zero-overlap", "Zero frames take part in the order.", 3, 5, b"%016x" % 12799, "out-of-order",
            "accepts")
    damaged("frame-back", "A frame goes back.", 2, 5, b"%016x" % 0, "out-of-order", "accepts")
    damaged("frame-past-disk", "A frame ends past the disk.", 3, 22, b"%016x" % (MIB - 12799), "past-disk",
            "accepts")
    damaged("frame-start-past-disk", "A frame begins past the disk.", 3, 5, b"%016x" % (MIB + 1), "past-disk",
            "accepts")
    damaged("frame-end-overflow", "Start and length together pass 64 bits.", 3, 5, b"f" * 16, "past-disk",
            "accepts")
    damaged("frame-length-overflow", "A length of all bits.", 3, 22, b"f" * 16, "past-disk", "accepts")
    far = Stream(virtual_size=1 << 62).data(0, b"x")
    longer = far.build().replace(header("data", 0, 1), header("data", 0, 1 << 61))
    bad("frame-longer-than-file", "A length that fits the disk, not the file, must not be allocated.", longer,
        "cut-off", far.frames[0]["stored_at"], 0, lost=[0, 1 << 62])
    damaged("payload-line-end", "Content ends with CR LF.", 1, HEADER + 4096, b"\n\r", "no-line-end",
            place=data["stored_at"] + 4096)
    damaged("payload-longer", "The length is one too large: the line end is not where it belongs.", 1, 22,
            b"%016x" % 4097, "no-line-end", place=data["stored_at"] + 4097)
    damaged("payload-shorter", "The length is one too small: the line end is not where it belongs.", 1, 22,
            b"%016x" % 4095, "no-line-end", place=data["stored_at"] + 4095)
    bad("stop-start", "stop carries zeros.", put(raw, at["stop"] + 20, b"1"), "not-zero", at["stop"],
        frames=frames, grammar="accepts")
    bad("stop-length", "stop carries zeros.", put(raw, at["stop"] + 37, b"1"), "not-zero", at["stop"],
        frames=frames, grammar="accepts")
    bad("after-stop-byte", "Nothing follows the end of the stream.", raw + b"\n", "bytes-after-end", at["end"],
        frames=frames)
    bad("after-stop-frame", "No frame follows stop.", raw + raw[last["header_at"] :], "bytes-after-end",
        at["end"], frames=frames)
    for name, by in (("small", -1), ("large", 1)):
        other = plain()
        damaged_raw = other.build(data_size=4608 + by)
        bad("data-size-" + name, "dataSize is the sum of all data frames.", damaged_raw, "data-size", HEADER,
            frames=other.frames, grammar="accepts")


def bad_trailers():
    stream = small_lz4()
    raw = stream.build()
    at, frames = stream.at, stream.frames
    size = stream.virtual_size
    first, second = stream.entries()
    no_lz4 = Stream(4, compressed=False).data(0, content(600, 13)).build()
    bad("lz4-plain-after-all", "The meta text says compressed, the file is not.", no_lz4, "trailer-missing",
        len(no_lz4) - HEADER, grammar="accepts")
    lz4 = Stream(None, compressed=True).data(0, words(8192, 1))
    raw_lz4 = lz4.build()
    bad("lz4-not-after-all", "The meta text says uncompressed, the file is compressed.", raw_lz4, "cut-off",
        lz4.frames[0]["stored_at"], 0, lost=[0, MIB], grammar="accepts")
    bad("comp-start", "comp carries a start of 0.", put(raw, at["comp"] + 20, b"1"), "not-zero", at["comp"],
        grammar="accepts")
    bad("comp-length-huge", "A trailer longer than the file.", put(raw, at["comp"] + 22, b"f" * 16), "cut-off",
        at["comp"])
    bad("comp-line-end", "The trailer ends with CR LF.", put(raw, at["comp"] - 2, b"  "), "no-line-end",
        at["comp"] - 2)
    length = len(json.dumps([first, second]))
    bad("comp-length-short", "The trailer is longer than comp says.",
        put(raw, at["comp"] + 22, b"%016x" % (length - 1)), "trailer-syntax", at["trailer"] + 1, 0,
        lost=[0, size])
    bad("comp-length-long", "The trailer is shorter than comp says: it takes the line end of stop, which is blank.",
        put(raw, at["comp"] + 22, b"%016x" % (length + 2)), "misplaced", at["stop"], 4, frames)

    def listed(name, about, trailer, code, frame, grammar="accepts", lost=None, place=None):
        other = small_lz4()
        damaged = other.build(trailer=trailer)
        readable = {0: frames[:0], 1: frames[:2], None: frames}[frame]
        number = {0: 0, 1: 2, None: None}[frame]
        if lost is None and frame is not None:
            lost = [{0: 0, 1: 73728}[frame], size]
        bad(name, about, damaged, code, at["trailer"] if place is None else place, number, readable,
            grammar=grammar, lost=lost)

    bad_lists = [
        ("trailer-too-few", "Fewer entries than data frames.", [first], "trailer-too-few", 1),
        ("trailer-none", "No entry at all.", [], "trailer-too-few", 0),
        ("trailer-too-many", "More entries than data frames.", [first, second, 100], "trailer-too-many", None),
        ("trailer-pieces-of-small", "A frame shorter than 32 MiB has a plain number.",
         [{str(first): [first]}, second], "trailer-form", 0),
        ("trailer-zero", "No LZ4 frame has no bytes.", [0, second], "trailer-stored-length", 0),
    ]
    for name, about, entries, code, frame in bad_lists:
        listed(name, about, json.dumps(entries), code, frame)
    texts = [
        ("trailer-not-json", "Not even JSON.", "[%d, %d" % (first, second)),
        ("trailer-object", "JSON, but no array.", '{"%d": [%d]}' % (first, first)),
        ("trailer-text", "Lengths are numbers.", '["%d", %d]' % (first, second)),
        ("trailer-fraction", "Lengths are whole.", "[%d.0, %d]" % (first, second)),
        ("trailer-exponent", "Lengths are plain digits.", "[%de0, %d]" % (first, second)),
        ("trailer-leading-zero", "JSON numbers have no leading zero.", "[0%d, %d]" % (first, second)),
        ("trailer-negative", "Lengths are not negative.", "[-%d, %d]" % (first, second)),
        ("trailer-nested", "An entry is a number or an object.", "[[%d], %d]" % (first, second)),
        ("trailer-null", "An entry is a number or an object.", "[null, %d]" % second),
    ]
    for name, about, text in texts:
        # Where the digits come first, they are taken for a whole length, and the next data frame misses its own.
        frame = {"trailer-not-json": None, "trailer-fraction": 1, "trailer-exponent": 1}.get(name, 0)
        listed(name, about, text, "trailer-syntax", frame)
    listed("trailer-behind", "Nothing follows the array.", "[%d, %d]]" % (first, second), "trailer-syntax", None)
    listed("trailer-huge", "A number past 64 bits must not wrap.", "[%d, %d]" % (1 << 64 | first, second),
           "trailer-too-large", 0)
    other = Stream(4).data(0, b"x").data(512, content(8000, 14))
    raw = other.build(trailer=json.dumps([4200, other.entries()[1]]))
    bad("trailer-large", "More bytes than LZ4 can make of the content.", raw, "trailer-stored-length",
        other.at["trailer"], 0, grammar="accepts", lost=[0, MIB])
    bad_entry_lengths()
    bad_pieces()


def bad_entry_lengths():
    """An entry that is wrong by one puts the line end elsewhere."""
    for name, by in (("trailer-one-less", -1), ("trailer-one-more", 1)):
        stream = small_lz4()
        entries = stream.entries()
        entries[0] += by
        raw = stream.build(trailer=json.dumps(entries))
        place = stream.frames[0]["stored_at"] + entries[0]
        bad(name, "An entry is wrong by one: the line end is not where it belongs.", raw, "no-line-end", place, 0,
            grammar="accepts", lost=[0, MIB])


def bad_pieces():
    """Entries of data frames that need pieces."""
    zeros = lz4frame.frame(bytes(PIECE))
    end = lz4frame.frame(b"abc")
    total = len(zeros) + len(end)

    def pieces(name, about, entry, code):
        stream = Stream(1, virtual_size=64 * MIB).data(0, bytes(PIECE) + b"abc", pieces=[zeros, end])
        # Something long behind it, so that no wrong entry is too long for the file already.
        stream.data(40 * MIB, bytes(PIECE))
        raw = stream.build(trailer=json.dumps([entry, stream.entries()[1]]))
        bad(name, about, raw, code, stream.at["trailer"], 0, grammar="accepts", lost=[0, 64 * MIB])

    for name, length, entry in [
        ("pieces-plain-number-for-32-mib", PIECE, len(zeros)),
        ("pieces-for-less-than-32-mib", PIECE - 1, {str(len(zeros)): [len(zeros)]}),
    ]:
        stream = Stream(1, virtual_size=64 * MIB).data(0, bytes(length), pieces=[zeros])
        bad(name, "The form of an entry changes at exactly 32 MiB.", stream.build(trailer=json.dumps([entry])),
            "trailer-form", stream.at["trailer"], 0, grammar="accepts", lost=[0, 64 * MIB])
    pieces("pieces-plain-number", "A frame of 32 MiB or more needs its pieces.", total, "trailer-form")
    pieces("pieces-one-for-two", "One piece holds 32 MiB at most.", {str(total): [total]}, "trailer-form")
    pieces("pieces-three-for-two", "All pieces but the last hold 32 MiB.",
           {str(total + len(zeros)): [len(zeros), len(zeros), len(end)]}, "trailer-form")
    pieces("pieces-total", "The key is the sum.", {str(total + 1): [len(zeros), len(end)]}, "trailer-total")
    pieces("pieces-none", "A list of pieces is never empty.", {"0": []}, "trailer-syntax")
    pieces("pieces-tiny", "No LZ4 frame of so few bytes holds 32 MiB: a million of them would fill the memory.",
           {"%d" % (total - len(zeros) + 40): [40, len(end)]}, "trailer-too-small")


def bad_payloads():
    """The structure is whole, the content is not."""
    text = words(100000, 20)
    whole = lz4frame.frame(text, block_size=64 << 10)

    def payload(name, about, stored, code, grammar):
        stream = Stream(4).zero(0, 512).data(512, text, pieces=[stored]).data(100512, b"after")
        raw = stream.build()
        frame = stream.frames[1]
        frame["crc32"] = None
        bad(name, about, raw, code, frame["stored_at"], 1, stream.frames, grammar, lost=[512, 512 + len(text)])

    bare = lz4frame.frame(text, block_size=64 << 10, block_sums=False)
    first = struct.unpack_from("<I", whole, 7)[0]
    payload("lz4-block-flip", "A changed byte inside a block: the block's checksum differs.",
            put(whole, 7 + 4 + first // 2, bytes([whole[7 + 4 + first // 2] ^ 1])), "payload-damaged", "accepts")
    payload("lz4-content-sum", "The content's checksum differs.", put(bare, len(bare) - 4, b"\0\0\0\0"),
            "payload-damaged", "accepts")
    payload("lz4-descriptor-sum", "The checksum of the LZ4 descriptor differs.",
            put(whole, 6, bytes([whole[6] ^ 0x55])), "payload-damaged", "accepts")
    payload("lz4-magic", "Not an LZ4 frame.", put(whole, 0, b"\x28\xb5\x2f\xfd"), "payload-damaged", "refuses")
    payload("lz4-too-few-bytes", "The LZ4 frame holds one byte less than the data frame says.",
            lz4frame.frame(text[:-1]), "payload-length", "accepts")
    payload("lz4-too-many-bytes", "The LZ4 frame holds one byte more than the data frame says.",
            lz4frame.frame(text + b"x"), "payload-length", "accepts")
    payload("lz4-content-size", "The LZ4 frame claims more content than it holds.",
            claim(lz4frame.frame(text, content_size=True), 1 << 60), "payload-damaged", "accepts")
    payload("lz4-bytes-behind", "Bytes between the LZ4 frame and the line end.", whole + b"\0\0", "payload-trailing",
            "refuses")
    payload("lz4-frame-cut", "The LZ4 frame has no end, the trailer fits all the same.", whole[:-8], "payload-cut",
            "refuses")


def bad_zstd():
    """zstd streams whose structure is whole and whose content is not, and trailers that no zstd stream has."""
    text = words(100000, 20)
    whole = zstdframe.frame(text)

    def payload(name, about, stored, code, grammar):
        stream = Stream(3, zstd=True).zero(0, 512).data(512, text, pieces=[stored]).data(100512, b"after")
        raw = stream.build()
        frame = stream.frames[1]
        frame["crc32"] = None
        bad(name, about, raw, code, frame["stored_at"], 1, stream.frames, grammar, lost=[512, 512 + len(text)])

    payload("zstd-block-flip", "A changed byte inside a block: the content's checksum differs.",
            put(whole, 5000, bytes([whole[5000] ^ 1])), "payload-damaged", "accepts")
    payload("zstd-content-sum", "The content's checksum differs.",
            put(whole, len(whole) - 4, b"\0\0\0\0"), "payload-damaged", "accepts")
    payload("zstd-magic", "Not a zstd frame but one to be skipped.", put(whole, 0, b"\x50\x2a\x4d\x18"),
            "payload-damaged", "refuses")
    payload("zstd-lz4-frame", "Not a zstd frame but an LZ4 one.", lz4frame.frame(text), "payload-damaged", "accepts")
    payload("zstd-dictionary", "A frame that needs a dictionary.", zstdframe.frame(text, dictionary=7),
            "payload-damaged", "refuses")
    payload("zstd-too-few-bytes", "The zstd frame holds one byte less than the data frame says.",
            zstdframe.frame(text[:-1]), "payload-length", "accepts")
    payload("zstd-too-many-bytes", "The zstd frame holds one byte more than the data frame says.",
            zstdframe.frame(text + b"x"), "payload-length", "accepts")
    payload("zstd-too-many-unsized", "The same, and the zstd frame does not say it.",
            zstdframe.frame(text + b"x", sized=False), "payload-length", "accepts")
    payload("zstd-content-size", "The zstd frame claims more content than it holds.",
            zstdframe.frame(text, claimed=len(text) + 1), "payload-length", "accepts")
    payload("zstd-bytes-behind", "Bytes between the zstd frame and the line end.", whole + b"\0\0",
            "payload-trailing", "refuses")
    payload("zstd-two-frames", "Two zstd frames that hold the content together.",
            zstdframe.frame(text[:50000]) + zstdframe.frame(text[50000:]), "payload-trailing", "refuses")
    payload("zstd-frame-cut", "The zstd frame has no end, the trailer fits all the same.", whole[:-8], "payload-cut",
            "refuses")
    stored = zstdframe.frame(bytes(PIECE), checksum=False)
    for name, about, entry in [
        ("zstd-32-mib", "Data frames of zstd streams are shorter than 32 MiB.", len(stored)),
        ("zstd-pieces", "Trailers of zstd streams have plain numbers only.", {str(len(stored)): [len(stored)]}),
    ]:
        stream = Stream(1, zstd=True, virtual_size=64 * MIB).data(0, bytes(PIECE), pieces=[stored])
        raw = stream.build(trailer=json.dumps([entry]))
        bad(name, about, raw, "trailer-form", stream.at["trailer"], 0, grammar="accepts", lost=[0, 64 * MIB])
    stream = Stream(1, zstd=True, virtual_size=64 * MIB).data(0, bytes(8 * MIB), pieces=[stored[:100]])
    bad("zstd-trailer-small", "Fewer bytes than zstd can make of the content.", stream.build(),
        "trailer-stored-length", stream.at["trailer"], 0, grammar="refuses", lost=[0, 64 * MIB])


def claim(frame, size):
    """An LZ4 frame that claims another content size, its descriptor's checksum made right again."""
    descriptor = frame[4:6] + struct.pack("<Q", size)
    return frame[:4] + descriptor + bytes([lz4frame.xxh32(descriptor) >> 8 & 0xFF]) + frame[15:]


# --- files ----------------------------------------------------------------------------------------------------


def files():
    make_good()
    make_good_zstd()
    make_bad()
    out = {}
    index = {"good": [], "bad": []}
    for (folder, name), (raw, expected) in VECTORS.items():
        index[folder].append(name)
        out[f"{folder}/{name}.data"] = raw
        out[f"{folder}/{name}.json"] = (json.dumps(expected, indent=1) + "\n").encode()
    out["index.json"] = (json.dumps(index, indent=1) + "\n").encode()
    return out


def differing(made, target):
    """The names whose files are absent or hold something else."""
    for name, raw in made.items():
        try:
            with open(os.path.join(target, name), "rb") as file:
                if file.read() != raw:
                    yield name
        except FileNotFoundError:
            yield name


def write_or_check(made, script, arguments):
    if arguments == ["--check"]:
        wrong = list(differing(made, HERE))
        for name in wrong:
            print(f"{name} is not what {script} makes")
        print(f"{len(made)} files checked")
        return 1 if wrong else 0
    target = arguments[0] if arguments else HERE
    for name, raw in made.items():
        path = os.path.join(target, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(raw)
    print(f"{len(made)} files written")
    return 0


if __name__ == "__main__":
    sys.exit(write_or_check(files(), "make.py", sys.argv[1:]))
