#!/usr/bin/python3
"""Holds virtnbdbackup_stream.ksy against the test vectors.

    check_grammar.py                     read the vectors with the grammar, by the interpreter below
    check_grammar.py --compiler FOLDER   and with what the Kaitai Struct compiler makes of the grammar

FOLDER holds the unpacked npm package kaitai-struct-compiler (kaitai-struct-compiler.js); it needs `node` and the
Python package kaitaistruct. Neither is part of this project or needed to build or test it:

    npm pack kaitai-struct-compiler && tar xf kaitai-struct-compiler-*.tgz     # FOLDER is ./package
    pip install kaitaistruct

The interpreter knows as much of the grammar language as the grammar uses, and stops at anything else. It needs
PyYAML (Debian: python3-yaml) and no network.

Each good vector must give the frames its JSON lists; of the bad ones those must be refused whose JSON says so. The
others break rules that a grammar cannot express.
"""

import ast
import io
import json
import os
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
GRAMMAR = os.path.join(HERE, "virtnbdbackup_stream.ksy")
VECTORS = os.path.join(HERE, "vectors")
NUMBERS = {"u1": 1, "u4": 4, "u8": 8}


class Refused(Exception):
    """The grammar does not match."""


class Source:
    """The file being read."""

    def __init__(self, data):
        self.data, self.at, self.size = data, 0, len(data)

    def take(self, count):
        if count < 0 or count > self.size - self.at:
            raise Refused(f"{count} bytes wanted at {self.at}, {self.size - self.at} left")
        self.at += count
        return self.data[self.at - count : self.at]


class Node:
    """One object of the grammar: its fields, parameters and, computed when asked for, its instances."""

    def __init__(self, grammar, spec, source, root=None, parameters=()):
        self.grammar, self.spec, self.source = grammar, spec, source
        self.root = root or self
        names = [parameter["id"] for parameter in spec.get("params", [])]
        assert len(names) == len(parameters)
        self.values = dict(zip(names, parameters))
        for field in spec["seq"]:
            known = {"id", "type", "size", "size-eos", "contents", "valid", "repeat", "repeat-until", "repeat-expr",
                     "if", "encoding", "doc"}
            assert set(field) <= known, field
            self.values[field["id"]] = self.read_field(field)

    def read_field(self, field):
        if "if" in field and not self.evaluate(field["if"]):
            return None
        if "repeat" not in field:
            return self.read_one(field)
        out = []
        if field["repeat"] == "expr":
            for _ in range(self.evaluate(field["repeat-expr"])):
                out.append(self.read_one(field))
            return out
        assert field["repeat"] == "until"
        while True:
            out.append(self.read_one(field))
            if self.evaluate(field["repeat-until"], {"_": out[-1]}):
                return out

    def read_one(self, field):
        if "contents" in field:
            want = field["contents"]
            want = want.encode() if isinstance(want, str) else bytes(want)
            if self.source.take(len(want)) != want:
                raise Refused(f"{field['id']} must be {want}")
            return want
        kind = field.get("type")
        if field.get("size-eos"):
            value = self.source.take(self.source.size - self.source.at)
        elif "size" in field:
            value = self.source.take(self.evaluate(field["size"]))
        elif kind in NUMBERS:
            value = int.from_bytes(self.source.take(NUMBERS[kind]), "little")
        else:
            return self.nested(kind)
        if kind == "str":
            try:
                value = value.decode(field.get("encoding", "ASCII"))
            except UnicodeDecodeError as error:
                raise Refused(str(error)) from error
        self.check(field, value)
        return value

    def check(self, field, value):
        valid = field.get("valid", {})
        assert set(valid) <= {"any-of", "expr"}, valid
        if "any-of" in valid and value not in [self.evaluate(one) for one in valid["any-of"]]:
            raise Refused(f"{field['id']} is {value!r}")
        if "expr" in valid and not self.evaluate(valid["expr"], {field["id"]: value, "_": value}):
            raise Refused(f"{field['id']} does not fulfil {valid['expr']}")

    def nested(self, kind):
        name, _, arguments = kind.partition("(")
        parameters = [self.evaluate(arguments[:-1])] if arguments else []
        return Node(self.grammar, self.grammar["types"][name], self.source, self.root, parameters)

    def get(self, name):
        if name in self.values:
            return self.values[name]
        instance = self.spec.get("instances", {}).get(name)
        if instance is None:
            raise AssertionError(f"no {name}")
        if "value" in instance:
            self.values[name] = self.evaluate(instance["value"])
        else:
            place, self.source.at = self.source.at, self.evaluate(instance["pos"])
            if self.source.at < 0:
                raise Refused("a place before the file")
            self.values[name] = self.read_one({"id": name, **instance})
            self.source.at = place
        return self.values[name]

    def evaluate(self, text, more=None):
        if not isinstance(text, str):
            return text
        return self.walk(ast.parse(text.strip(), mode="eval").body, more or {})

    def walk(self, node, more):
        """An expression. What both languages write alike is enough, but for `/`, which drops the fraction."""
        if isinstance(node, ast.Constant):
            return node.value
        if isinstance(node, ast.Name):
            special = {"_io": self.source, "_root": self.root, **more}
            return special[node.id] if node.id in special else self.get(node.id)
        if isinstance(node, ast.Attribute):
            value = self.walk(node.value, more)
            if isinstance(value, Node):
                return value.get(node.attr)
            if isinstance(value, Source) and node.attr == "size":
                return value.size
            assert isinstance(value, bytes) and node.attr == "length", ast.dump(node)
            return len(value)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "to_i":
            try:
                return int(self.walk(node.func.value, more), self.walk(node.args[0], more))
            except ValueError as error:
                raise Refused(str(error)) from error
        if isinstance(node, ast.BoolOp) and isinstance(node.op, ast.And):
            return all(self.walk(value, more) for value in node.values)
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            return not self.walk(node.operand, more)
        if isinstance(node, ast.Compare):
            left, right = self.walk(node.left, more), self.walk(node.comparators[0], more)
            return left == right if isinstance(node.ops[0], ast.Eq) else left != right
        assert isinstance(node, ast.BinOp), ast.dump(node)
        left, right = self.walk(node.left, more), self.walk(node.right, more)
        kind = type(node.op)
        return {
            ast.Add: lambda: left + right,
            ast.Sub: lambda: left - right,
            ast.Mult: lambda: left * right,
            ast.Div: lambda: left // right,
            ast.BitAnd: lambda: left & right,
        }[kind]()

    def __getattr__(self, name):
        return self.get(name)


def interpreted(grammar):
    """A reader by the interpreter above."""
    return lambda data: Node(grammar, grammar, Source(data)), Refused


def compiled(grammar, folder):
    """A reader by the Kaitai Struct compiler. It takes the grammar as an object, so as JSON."""
    import kaitaistruct

    program = """
        const compiler = require(process.argv[1]);
        const grammar = JSON.parse(require("fs").readFileSync(0, "utf8"));
        (compiler.default || compiler).compile("python", grammar, null, false)
            .then(files => process.stdout.write(JSON.stringify(files)), error => { console.error(error); process.exit(1); });
    """
    module = os.path.join(os.path.abspath(folder), "kaitai-struct-compiler.js")
    done = subprocess.run(["node", "-e", program, module], input=json.dumps(grammar), text=True,
                          stdout=subprocess.PIPE, check=True)
    with tempfile.TemporaryDirectory() as place:
        for name, text in json.loads(done.stdout).items():
            with open(os.path.join(place, name), "w", encoding="utf-8") as file:
                file.write(text)
        sys.path.insert(0, place)
        reader = __import__(grammar["meta"]["id"]).VirtnbdbackupStream
    refusals = (kaitaistruct.KaitaiStructError, EOFError, ValueError, UnicodeDecodeError)
    return lambda data: reader(kaitaistruct.KaitaiStream(io.BytesIO(data))), refusals


def stored_lengths(payload):
    """What a data frame stores, counted from the grammar's objects."""
    pieces = getattr(payload, "pieces", None)
    if pieces is None:
        return [len(payload.plain)]
    return [4 + (zstd_length(piece.zstd) if piece.lz4 is None else lz4_length(piece.lz4)) for piece in pieces]


def zstd_length(frame):
    size = 1 + (4 if frame.descriptor & 4 else 0) + (0 if frame.descriptor & 32 else 1)
    size += {0: 1 if frame.descriptor & 32 else 0, 1: 2, 2: 4, 3: 8}[frame.descriptor >> 6]
    for block in frame.blocks:
        size += 3 + (1 if block.head & 6 == 2 else block.size)
    return size


def lz4_length(frame):
    size = 2 + 1 + (8 if frame.flags & 8 else 0) + (4 if frame.flags & 4 else 0)
    for block in frame.blocks:
        size += 4 + (block.head & 0x7FFFFFFF) + (4 if frame.flags & 16 and block.head else 0)
    return size


def frames_of(stream):
    out = []
    at = 40 + stream.meta.range.length + 2
    for frame in list(stream.frames)[:-1]:
        found = {"kind": frame.kind, "start": frame.range.start, "length": frame.range.length, "header_at": at}
        at += 40
        if frame.kind == "data":
            found["stored_at"] = at
            found["stored"] = stored_lengths(frame.payload)
            at += sum(found["stored"]) + 2
        out.append(found)
    return out


def trailer_of(stream):
    """Stored lengths as the trailer's JSON has them; None without one."""
    if not stream.is_compressed:
        return None
    entries = json.loads(stream.trailer.json)
    return [[entry] if isinstance(entry, int) else list(entry.values())[0] for entry in entries]


def differences(read, refusals):
    with open(os.path.join(VECTORS, "index.json"), encoding="utf-8") as file:
        index = json.load(file)
    for folder, names in index.items():
        for name in names:
            path = os.path.join(VECTORS, folder, name)
            with open(path + ".data", "rb") as file:
                data = file.read()
            with open(path + ".json", encoding="utf-8") as file:
                want = json.load(file)
            try:
                stream = read(data)
                # Numbers are taken out of their digits when somebody asks for them.
                frames_of(stream)
                refused = None
            except refusals as error:
                refused = error
            if folder == "bad":
                expected = want["grammar"] == "refuses"
                if expected != (refused is not None):
                    yield f"{folder}/{name}: {refused or 'accepted'}"
            elif refused:
                yield f"{folder}/{name}: {refused}"
            else:
                yield from compare(name, stream, want)


def compare(name, stream, want):
    frames = [{key: value for key, value in frame.items() if key != "crc32"} for frame in want["frames"]]
    if frames_of(stream) != frames:
        yield f"good/{name}: frames {frames_of(stream)}"
    fields = json.loads(stream.meta.json)
    if (fields["virtualSize"], fields["checkpointName"]) != (
        want["meta"]["virtualSize"],
        want["meta"]["checkpointName"],
    ):
        yield f"good/{name}: meta {fields}"
    stored = [frame["stored"] for frame in frames if frame["kind"] == "data"] if want["coding"] != "plain" else None
    if trailer_of(stream) != stored:
        yield f"good/{name}: trailer {trailer_of(stream)}"


def main(arguments):
    import yaml

    with open(GRAMMAR, encoding="utf-8") as file:
        grammar = yaml.safe_load(file)
    readers = {"interpreter": interpreted(grammar)}
    if arguments:
        option, folder = arguments
        assert option == "--compiler", __doc__
        readers["compiler"] = compiled(grammar, folder)
    failed = False
    for name, (read, refusals) in readers.items():
        wrong = list(differences(read, refusals))
        failed = failed or bool(wrong)
        for line in wrong:
            print(f"{name}: {line}")
        print(f"{name}: {'wrong' if wrong else 'as the vectors say'}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
