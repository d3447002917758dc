meta:
  id: virtnbdbackup_stream
  title: Sparse stream of a virtual disk, as virtnbdbackup and vmbackup write it
  file-extension: data
  license: MIT
  ks-version: '0.9'
  endian: le
  encoding: ASCII
doc: |
  A disk image, or what changed in it, as frames of data and zeros: versions 1 to 3, compressed and not.
  The text is chapter 1 of this specification (1-stream.md); where the two differ, the text holds.

  What a grammar cannot say, a reader checks by itself: hex digits are lower case; frames are in order, do not
  overlap and end inside the disk; none is empty; stop and comp carry zeros; dataSize is the sum of all data
  frames; the meta text and the trailer are JSON. The trailer is not needed here: an LZ4 or
  zstd frame tells its own end. Which of the two it must be, the meta text says.
doc-ref: 1-stream.md
seq:
  - id: meta
    type: meta_frame
  - id: frames
    type: frame
    repeat: until
    repeat-until: _.kind == "stop"
  - id: trailer
    type: trailer
    if: is_compressed
  - id: behind
    doc: Nothing follows the end of the stream.
    size-eos: true
    valid:
      expr: _.length == 0
instances:
  last_kind:
    doc: A compressed stream ends with the header of its trailer, an uncompressed one with that of stop.
    pos: _io.size - 40
    size: 4
    type: str
  is_compressed:
    value: last_kind == "comp"
types:
  range:
    doc: What every header has behind its kind, 36 bytes.
    seq:
      - id: before_start
        contents: ' '
      - id: start_digits
        type: str
        size: 16
      - id: before_length
        contents: ' '
      - id: length_digits
        type: str
        size: 16
      - id: line_end
        contents: [0x0d, 0x0a]
    instances:
      start:
        doc: Offset in the disk.
        value: start_digits.to_i(16)
      length:
        doc: Bytes of disk content, never of what is stored; of JSON for meta and comp.
        value: length_digits.to_i(16)
  meta_frame:
    seq:
      - id: kind
        contents: meta
      - id: range
        type: range
      - id: json
        doc: One JSON object; fields in chapter 1.
        size: range.length
        type: str
        encoding: UTF-8
      - id: line_end
        contents: [0x0d, 0x0a]
  frame:
    seq:
      - id: kind
        size: 4
        type: str
        valid:
          any-of:
            - '"data"'
            - '"zero"'
            - '"stop"'
      - id: range
        type: range
      - id: payload
        type: payload(range.length)
        if: kind == "data"
  payload:
    doc: The content of a data frame.
    params:
      - id: length
        type: u8
    seq:
      - id: plain
        size: length
        if: not _root.is_compressed
      - id: pieces
        doc: Each holds 32 MiB of content, the last one what is left.
        type: compressed_frame
        repeat: expr
        repeat-expr: (length + 33554431) / 33554432
        if: _root.is_compressed
      - id: line_end
        contents: [0x0d, 0x0a]
  trailer:
    seq:
      - id: json
        doc: The stored length of each data frame; forms in chapter 1.
        size: tail.range.length
        type: str
      - id: line_end
        contents: [0x0d, 0x0a]
      - id: comp
        type: comp_header
    instances:
      tail:
        doc: The same as comp, found from the end of the file.
        pos: _io.size - 40
        type: comp_header
  comp_header:
    seq:
      - id: kind
        contents: comp
      - id: range
        type: range
  compressed_frame:
    seq:
      - id: magic
        doc: 0x184d2204 for LZ4, 0xfd2fb528 for zstd.
        type: u4
        valid:
          any-of:
            - 0x184d2204
            - 0xfd2fb528
      - id: lz4
        type: lz4_frame
        if: magic == 0x184d2204
      - id: zstd
        type: zstd_frame
        if: magic == 0xfd2fb528
  zstd_frame:
    doc: A zstd frame (RFC 8878) behind its magic number, without dictionary.
    seq:
      - id: descriptor
        type: u1
        valid:
          expr: (_ & 3) == 0
      - id: window
        type: u1
        if: (descriptor & 32) == 0
      - id: content_size_1
        type: u1
        if: (descriptor & 224) == 32
      - id: content_size_2
        size: 2
        if: (descriptor & 192) == 64
      - id: content_size_4
        type: u4
        if: (descriptor & 192) == 128
      - id: content_size_8
        type: u8
        if: (descriptor & 192) == 192
      - id: blocks
        type: zstd_block
        repeat: until
        repeat-until: (_.head & 1) == 1
      - id: content_checksum
        doc: The low half of xxHash, 64 bits, of the content.
        type: u4
        if: (descriptor & 4) != 0
  zstd_block:
    seq:
      - id: head
        doc: Whether it is the last one, kind (1 repeats one byte), low bits of the size.
        type: u1
      - id: size_middle
        type: u1
      - id: size_high
        type: u1
      - id: bytes
        size: size
        if: (head & 6) != 2
      - id: repeated
        type: u1
        if: (head & 6) == 2
    instances:
      size:
        value: head / 8 + size_middle * 32 + size_high * 8192
  lz4_frame:
    doc: A frame of the LZ4 frame format behind its magic number, without dictionary.
    seq:
      - id: flags
        type: u1
      - id: block_descriptor
        type: u1
      - id: content_size
        type: u8
        if: (flags & 8) != 0
      - id: descriptor_checksum
        type: u1
      - id: blocks
        type: lz4_block((flags & 16) != 0)
        repeat: until
        repeat-until: _.head == 0
      - id: content_checksum
        doc: xxHash, 32 bits, of the content.
        type: u4
        if: (flags & 4) != 0
  lz4_block:
    params:
      - id: has_checksum
        type: bool
    seq:
      - id: head
        doc: Bytes of the block; 0 ends the frame; the highest bit says that they are not compressed.
        type: u4
      - id: bytes
        size: head & 0x7fffffff
      - id: checksum
        type: u4
        if: has_checksum and head != 0
