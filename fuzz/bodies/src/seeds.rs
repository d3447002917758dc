//! Inputs to begin with: the format's test vectors, cut up for each reader, and small samples.

use std::path::{Path, PathBuf};

use random::Random;
use tempfile::TempDir;
use vmstream::chain::{CheckpointName, cpt};
use vmstream::sidecar::{FileIdentity, Granules, Head, PlainSums, Recorder, StoredSums, StreamIdentity};
use vmstream::stream::writer::{FinishedStream, StreamWriter};
use vmstream::stream::{Compression, FRAME_HEADER_LEN, StreamMeta, codec};

use crate::chain::pack;
use crate::config::SEPARATOR;
use crate::sidecar::unsealed;

/// Longer vectors say nothing that shorter ones do not, and make every run slow.
const LONGEST_STREAM: u64 = 40_000;

/// An empty folder that goes away again, in memory where that can be.
pub(crate) fn scratch() -> TempDir {
    let memory = Path::new("/dev/shm");
    let place = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
    tempfile::Builder::new().prefix("vmbackup-fuzz-").tempdir_in(place).unwrap()
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn texts(all: &[&str]) -> Vec<Vec<u8>> {
    all.iter().map(|text| text.as_bytes().to_vec()).collect()
}

/// The streams of the test vectors, by name.
pub(crate) fn streams() -> Vec<Vec<u8>> {
    let mut paths = Vec::new();
    for folder in ["good", "bad"] {
        let dir = root().join("format-spec/vectors").join(folder);
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            let small = std::fs::metadata(&path).unwrap().len() <= LONGEST_STREAM;
            if small && path.extension().is_some_and(|end| end == "data") {
                paths.push(path);
            }
        }
    }
    paths.sort();
    assert!(paths.len() > 50, "the test vectors are gone");
    paths.iter().map(|path| std::fs::read(path).unwrap()).collect()
}

fn sorted(mut inputs: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    inputs.sort();
    inputs.dedup();
    inputs
}

/// Every header in the vectors.
pub(crate) fn frames() -> Vec<Vec<u8>> {
    let kinds: [&[u8]; 5] = [b"meta ", b"data ", b"zero ", b"stop ", b"comp "];
    let headers = streams().into_iter().flat_map(|stream| {
        let windows = stream.windows(FRAME_HEADER_LEN);
        windows.filter(|window| kinds.contains(&&window[..5])).map(<[u8]>::to_vec).collect::<Vec<_>>()
    });
    sorted(headers.collect())
}

/// Every meta text in the vectors.
pub(crate) fn metas() -> Vec<Vec<u8>> {
    let text = |stream: Vec<u8>| {
        let start = stream.get(FRAME_HEADER_LEN..)?;
        let end = start.windows(2).position(|two| two == b"\r\n")?;
        Some(start[..end].to_vec())
    };
    let deep = [b"[".repeat(20_000), b"{\"a\":".repeat(20_000), b"[0,0,0,0".repeat(5_000)];
    sorted(streams().into_iter().filter_map(text).chain(deep).collect())
}

/// Every trailer in the vectors.
pub(crate) fn trailers() -> Vec<Vec<u8>> {
    let text = |stream: Vec<u8>| {
        let end = stream.len().checked_sub(FRAME_HEADER_LEN + 2)?;
        let start = stream[..end].windows(2).rposition(|two| two == b"\r\n")? + 2;
        (stream[end + 2..].starts_with(b"comp")).then(|| stream[start..end].to_vec())
    };
    let more =
        texts(&["[17560, {\"157872\": [140312, 17560]}]", "[{\"131075\": [131072, 3]}, 1]", "[0, 16777216]"]);
    sorted(streams().into_iter().filter_map(text).chain(more).collect())
}

/// Pieces of several sizes and levels, with their lengths in front.
pub(crate) fn pieces() -> Vec<Vec<u8>> {
    let contents = [vec![], vec![7], vec![0; 300_000], (0..5000).map(|i| (i * i % 251) as u8).collect()];
    let mut pieces = Vec::new();
    for content in contents {
        for compression in [Compression::Lz4(1), Compression::Lz4(9), Compression::Zstd(1)] {
            let mut piece = (content.len() as u64).to_be_bytes().to_vec();
            codec::compress(&content, compression, &mut piece).unwrap();
            pieces.push(piece);
        }
    }
    pieces
}

/// Any bytes, for inputs that something is built of.
pub(crate) fn noise() -> Vec<Vec<u8>> {
    let mut random = Random::from_seed(0x2545_f491_4f6c_dd1d);
    let mut inputs: Vec<Vec<u8>> =
        [0, 1, 16, 100, 400, 2000].into_iter().map(|len| random.bytes(len)).collect();
    inputs.extend([
        vec![0; 200],
        vec![0xff; 200],
        texts(&["\u{5}a'b\\c\u{4}\n\"]\t\u{6}${A}`\u{3}é\n"]).concat(),
    ]);
    inputs
}

pub(crate) fn names() -> Vec<Vec<u8>> {
    texts(&[
        "vda.full.data",
        "vda.inc.virtnbdbackup.2.zstd",
        "vda.full.zstd.chksum",
        "vda.inc.virtnbdbackup.1.data",
        "vda.diff.1795377788.data.partial",
        "vda.copy.data.chksum",
        "vda.virtnbdbackup.1.qcow.json",
        "my.vm.cpt",
        "vmconfig.virtnbdbackup.12.xml",
        "vmconfig.copy.xml",
        "backup.inc.11222026200230.log",
        "bitlocker.recovery.key.C:.virtnbdbackup.1",
        "gold1_VARS.fd.1795377788",
        "diff.1795377788",
        "virtnbdbackup.4294967295",
        "copy",
    ])
}

pub(crate) fn lists() -> Vec<Vec<u8>> {
    let names: Vec<_> = (0..40).map(CheckpointName::new).collect();
    let mut lists = texts(&["[]", r#"["virtnbdbackup.0", "virtnbdbackup.1"]"#, r#"["virtnbdbackup.3"]"#]);
    lists.push(cpt::encode(&names));
    lists.push(b"[".repeat(20_000));
    lists
}

pub(crate) fn meta(
    point: u32,
    parent: Option<&str>,
    virtual_size: u64,
    compression: Option<Compression>,
) -> StreamMeta {
    StreamMeta {
        virtual_size,
        data_size: 0,
        date: "2026-11-22T20:02:30.768021".into(),
        disk_name: "vda".into(),
        disk_format: "qcow2".into(),
        checkpoint_name: format!("virtnbdbackup.{point}"),
        compression,
        parent_checkpoint: parent.unwrap_or_default().into(),
        incremental: parent.is_some(),
        stream_version: StreamMeta::version_for(compression),
    }
}

/// A stream with data at the given places, zeros in between where they do not follow each other, and its sidecar.
fn recorded(name: &str, meta: StreamMeta, data: &[(u64, u64)]) -> (Vec<u8>, Vec<u8>) {
    let dir = scratch();
    let (stream, sidecar) = (dir.path().join("x"), dir.path().join("y"));
    let level = meta.compression;
    let granules = Granules::of_disk(meta.virtual_size);
    let mut recorder = Recorder::create(&stream, &sidecar, meta).unwrap();
    let mut at = 0;
    for &(start, len) in data {
        if start > at {
            recorder.zero_frame(at, start - at).unwrap();
            recorder.zero_content(at, start - at).unwrap();
        }
        let plain = content(start, len);
        let stored = stored(level, &plain);
        let sums = (PlainSums::of(start, &plain, granules), StoredSums::of(&stored));
        recorder.data(start, len, &stored, (&sums.0, &sums.1)).unwrap();
        at = start + len;
    }
    let (done, writer) = recorder.finish().unwrap();
    writer.finish(&head(name, &done, granules)).unwrap();
    (std::fs::read(stream).unwrap(), std::fs::read(sidecar).unwrap())
}

/// The head of a full's sidecar.
pub(crate) fn head(name: &str, done: &FinishedStream, granules: Granules) -> Head {
    Head {
        writer: "vmbackup".into(),
        stream: StreamIdentity {
            name: name.into(),
            size: done.size,
            adler32: Some(done.adler32),
            digest: Some(done.digest),
        },
        target: "vda".into(),
        point: "virtnbdbackup.0".into(),
        parent: None,
        parent_sidecar: None,
        taken_seconds: 1_795_377_788,
        granules,
        disks: Some(vec!["vda".into()]),
        left_out: Vec::new(),
        files: vec![FileIdentity::of("vmconfig.virtnbdbackup.0.xml", b"<domain></domain>\n")],
    }
}

fn content(start: u64, len: u64) -> Vec<u8> {
    (0..len).map(|i| (i / 7 + start) as u8).collect()
}

pub(crate) fn stored(level: Option<Compression>, plain: &[u8]) -> Vec<u8> {
    let Some(level) = level else { return plain.to_vec() };
    let mut stored = Vec::new();
    codec::compress(plain, level, &mut stored).unwrap();
    stored
}

/// Sidecars as they are, and without their checksums.
pub(crate) fn sidecars() -> Vec<Vec<u8>> {
    let disks: [(u64, &[(u64, u64)]); 4] = [
        (20_000, &[(0, 1000), (8192, 3000)]),
        (1 << 20, &[(0, 70_000), (200_000, 131_072), (1_000_000, 48_576)]),
        (40 << 20, &[(33 << 20, 100)]),
        (u64::MAX, &[(0, 65_536)]),
    ];
    let mut inputs = Vec::new();
    for (size, data) in disks {
        let (_, sidecar) = recorded("vda.full.data", meta(0, None, size, Some(Compression::Lz4(1))), data);
        inputs.push(unsealed(&sidecar));
        inputs.push(sidecar);
    }
    inputs
}

/// A stream with data at the given places, zeros in between where they do not follow each other.
fn written(meta: StreamMeta, data: &[(u64, u64)]) -> Vec<u8> {
    let dir = scratch();
    let path = dir.path().join("x");
    let level = meta.compression;
    let mut writer = StreamWriter::create(&path, meta).unwrap();
    let mut at = 0;
    for &(start, len) in data {
        if start > at {
            writer.zero(at, start - at).unwrap();
        }
        writer.data(start, len, &stored(level, &content(start, len))).unwrap();
        at = start + len;
    }
    writer.finish().unwrap();
    std::fs::read(path).unwrap()
}

/// Folders as inputs: chains, a difference, a copy, a placeholder, a disk that shrank and grew, things missing, a definition
/// without disks.
pub(crate) fn chains() -> Vec<Vec<u8>> {
    let (zero, one) = ("virtnbdbackup.0", "virtnbdbackup.1");
    let list = |count: u32| cpt::encode(&(0..count).map(CheckpointName::new).collect::<Vec<_>>());
    let file = |name: &str, age: u8, content: &[u8]| (name.to_owned(), age, content.to_vec());
    let mut chains = Vec::new();
    for level in [None, Some(Compression::Lz4(1)), Some(Compression::Zstd(1))] {
        let (full, sidecar) =
            recorded("vda.full.data", meta(0, None, 20_000, level), &[(0, 1000), (8192, 3000)]);
        let inc = written(meta(1, Some(zero), 20_000, level), &[(512, 512), (9000, 5000)]);
        let next = written(meta(2, Some(one), 16_384, level), &[(4096, 4096)]);
        let sum = vmstream::stream::checksum::adler32(&full).to_string();
        let mut files = vec![
            file("vda.full.data", 1, &full),
            file("vda.full.data.chksum", 1, sum.as_bytes()),
            file("vda.inc.virtnbdbackup.1.data", 2, &inc),
            file("vda.inc.virtnbdbackup.2.data", 3, &next),
            file("vm.cpt", 3, &list(3)),
            file("vmconfig.virtnbdbackup.0.xml", 1, b"<domain></domain>\n"),
        ];
        chains.push(pack(&files));
        let diff = written(meta(2, Some(one), 20_000, level), &[(1024, 77)]);
        files.push(file("vda.full.idx", 1, &sidecar));
        chains.push(pack(&files));
        files.push(file("vda.diff.1795377788.data", 4, &diff));
        files.push(file("vdb.full.data", 1, &written(meta(0, None, 20_000, level), &[])));
        chains.push(pack(&files));
        files.remove(2);
        chains.push(pack(&files));
        let copy = written(meta(0, None, 3 << 20, level), &[(1 << 20, 100)]);
        chains.push(pack(&[file("vda.copy.data", 1, &copy), file("vdb.copy.data", 1, b"raw")]));
        let huge = written(meta(0, None, u64::MAX, level), &[(u64::MAX - 10, 10)]);
        chains.push(pack(&[file("vda.full.data", 1, &huge), file("vm.cpt", 1, &list(1))]));
    }
    let definition = FileIdentity::of("vmconfig.copy.xml", DOMAIN.as_bytes()).to_json();
    let identity = format!(
        r#"{{"taken":"2026-11-22T20:03:07.1","disks":[],"left_out":[{{"disk":"vdc","reason":"x"}}],"files":[{definition}]}}"#
    );
    let identity = file(".identity.copy.json", 1, identity.as_bytes());
    chains.push(pack(&[file("vmconfig.copy.xml", 1, DOMAIN.as_bytes()), identity]));
    chains
}

const DOMAIN: &str = "<domain type='kvm' id='3'><name>gold1</name><os><type arch='x86_64'>hvm</type>\
<loader readonly='yes' type='pflash'>/usr/share/OVMF/OVMF_CODE.fd</loader><nvram>/var/lib/n_VARS.fd</nvram></os>\
<devices><disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source file='/i/a &amp; b.qcow2' index='1'/>\
<target dev='vda' bus='virtio'/></disk><disk type='block'><driver type='raw'/><source dev='/dev/vg/a'/><target dev='vdb'/>\
</disk><disk type='network' device='disk'><source protocol='rbd' name='p/i'/><target dev='vdc'/></disk>\
<disk type='file' device='cdrom'><target dev='sda'/><readonly/></disk><disk type='volume' device='disk'>\
<source pool='p' volume='v'/><target dev='vdd'/><transient/></disk><channel type='unix'><target type='virtio' \
name='org.qemu.guest_agent.0' state='connected'/></channel></devices></domain>";

pub(crate) fn domains() -> Vec<Vec<u8>> {
    let mut all = texts(&[DOMAIN, "<domain/>", "<!-- c --><domain><![CDATA[x]]>&#x41;&amp;</domain>"]);
    all.extend(hostile_xml());
    all
}

/// The same sets, and ranges to read of their disks.
pub(crate) fn disks() -> Vec<Vec<u8>> {
    let ranges: Vec<u8> = (0..crate::disk::RANGES_LEN).map(|at| (at * 37) as u8).collect();
    chains().into_iter().map(|set| [&ranges[..], &set].concat()).collect()
}

/// Nested deep, entities that multiply, many attributes, many name spaces.
fn hostile_xml() -> Vec<Vec<u8>> {
    let deep = ["<a>".repeat(3_000), "</a>".repeat(3_000)].concat();
    let entities = "<!DOCTYPE x [<!ENTITY a \"aaaaaaaaaa\"><!ENTITY b \"&a;&a;&a;&a;\"><!ENTITY c \"&b;&b;&b;&b;\">]>\
<domain><name>&c;&c;</name></domain>";
    let attributes: String = (0..500).map(|i| format!(" a{i}='{i}'")).collect();
    let spaces: String = (0..300).map(|i| format!("<n:b xmlns:n='u{i}'>")).collect();
    texts(&[&deep, entities, &format!("<domain{attributes}/>"), &spaces])
}

pub(crate) fn checkpoints() -> Vec<Vec<u8>> {
    let mut all = texts(&[
        "<domaincheckpoint><name>virtnbdbackup.1</name><description>vmbackup 7-8</description>\
<parent><name>virtnbdbackup.0</name></parent><creationTime>1795377788</creationTime><disks>\
<disk name='vda' checkpoint='bitmap' bitmap='virtnbdbackup.1' size='65536'/><disk name='vdb' checkpoint='no'/>\
</disks></domaincheckpoint>",
        "<domaincheckpoint><disks><disk name='vda' size='99999999999999999999'/></disks></domaincheckpoint>",
    ]);
    all.extend(hostile_xml());
    all
}

pub(crate) fn agent_replies() -> Vec<Vec<u8>> {
    let mut all = texts(&[
        r#"{"return":{}}"#,
        r#"{"return":3}"#,
        r#"{"return":"thawed"}"#,
        r#"{"return":[{"name":"vda1","mountpoint":"/","disk":[{"bus-type":"virtio"}]}],"id":7}"#,
        r#"{"error":{"class":"GenericError","desc":"no"}}"#,
        r#"{"return":1e400}"#,
    ]);
    all.push([&b"{\"return\":"[..], &b"[".repeat(20_000)].concat());
    all
}

fn sample(name: &str) -> Vec<u8> {
    std::fs::read(root().join("config/template").join(name)).unwrap()
}

/// The shipped files, each spelling of an assignment, and texts that multiply.
pub(crate) fn confs() -> Vec<Vec<u8>> {
    let shipped =
        ["vmbackup.conf", "vm_overrides.conf", "exclude_patterns.conf"].map(sample).join(&SEPARATOR);
    let nested = ["BACKUP_PATH=", &"${A:-".repeat(400), "/b", &"}".repeat(400)].concat();
    let doubled: String = (0..60).map(|_| "A=$A$A\n").collect();
    let words = format!("A='{}'\nEXCLUDE_PATTERNS=({})\n", "a ".repeat(30_000), "$A ".repeat(250));
    let brackets = format!("EXCLUDE_PATTERNS=({})\n", "[".repeat(20_000));
    let mut all = texts(&[
        "BACKUP_PATH=\"/b\"\nexport A=1; declare -A VM_POLICY=([a]=daily ['b c']+=never)\nVM_POLICY[x]=weekly\n",
        "\u{feff}BACKUP_PATH=/b\r\nLOG_LEVEL = info # c\r\nB=${HOME:-/x}/~ C=$LANG\\\n\r\nreadonly -a X=(a\tb 'c')\n",
        "BACKUP_PATH=`x`\n",
        "A=$(x) B=$((1)) C=$'x' D={a,b} [[ x ]] && y | z\n",
        "EXCLUDE_PATTERNS=(test-* [ab]* 'q r' \"s$A\" [5]=x [6]+=y)\n",
        &nested,
        &format!("A=aaaaaaaa\n{doubled}"),
        &words,
        &brackets,
    ]);
    all.push(shipped);
    all
}

/// The shipped file, each kind of value, and texts that nest.
pub(crate) fn tomls() -> Vec<Vec<u8>> {
    let mut all = texts(&[
        "backup_path = \"/b\"\nparallel_vms = 0x2\nbackup_raw_disks = true\nexclude_patterns = ['a*', \"\\u0041\"]\n\
[vm_policy]\n\"web server\" = 'daily'\n",
        "BACKUP_PATH = '''/b'''\nvirtnbd_exclude_disks = ['vda', 'vdb']\na.b.c = 1e9\nd = 1979-05-27T07:32:00Z\n[[e]]\nf = {g=1}\n",
        &format!("a = {}", "[".repeat(20_000)),
        &format!("a = {}1", "{a=".repeat(5_000)),
        &format!("{}a = 1", "a.".repeat(5_000)),
        &format!("[{}a]", "a.".repeat(5_000)),
    ]);
    let toml = String::from_utf8(sample("vmbackup.toml")).unwrap();
    let is_setting = |line: &&str| line.starts_with(|c: char| c.is_ascii_lowercase()) && line.contains(" = ");
    let in_force = toml.lines().map(|line| line.strip_prefix('#').filter(is_setting).unwrap_or(line));
    all.push(in_force.collect::<Vec<_>>().join("\n").into_bytes());
    all
}

/// Each kind of pattern, and nests of them.
pub(crate) fn globs() -> Vec<Vec<u8>> {
    let nest = |opening: &str, depth| {
        format!("{}a{}\0aaaaaaaaaaaaaaaaaaaaaaaa", opening.repeat(depth), ")".repeat(depth))
    };
    texts(&[
        "web-*\0web-1",
        "[a-c][!x][[:digit:]_]?\0ab1x",
        "@(web|db)-+([0-9])\0db-12",
        "!(test*|*-old)\0web",
        "?(a)*(b|c)\\*[\0abcb*[",
        "[]a]\0]",
        &nest("!(*", 20),
        &nest("+(*", 12),
        &nest("@(", 100),
        &nest("@([", 100),
    ])
}
