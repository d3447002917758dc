//! What the fuzz targets do: one function for each reader of bytes that others wrote.
//!
//! libFuzzer calls them (`fuzz/fuzz_targets`), and so does the ordinary test runner, on stable Rust
//! (`tests/replay.rs`). A function panics when a reader breaks a promise. [`Target::run`] also holds the reader to
//! its memory. Must not live here: what is right for an input in particular; that is for the readers' own tests.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "a panic is a finding")]

mod chain;
mod config;
mod disk;
mod host;
pub mod mutate;
pub mod seeds;
mod sidecar;
mod stream;
mod structured;

use std::path::Path;

use peak_alloc::PeakAlloc;

#[global_allocator]
static ALLOCATOR: PeakAlloc = PeakAlloc;

/// The most inputs may take: the readers' buffers of fixed size, and what they may take for each byte of input.
#[derive(Clone, Copy, Debug)]
pub struct Allowance {
    /// Bytes, whatever the input.
    pub fixed: usize,
    /// Bytes for each byte of input.
    pub per_byte: usize,
}

/// One reader under test.
#[derive(Debug)]
pub struct Target {
    /// Its name, also of its file in `fuzz/fuzz_targets` and its folder in `fuzz/findings`.
    pub name: &'static str,
    /// Reads the input and panics when a promise is broken.
    body: fn(&[u8]),
    /// The most memory that the reader may hold at once.
    allowance: Allowance,
    /// Inputs to begin with.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

const MIB: usize = 1 << 20;

/// For readers that keep what they read, as values many times larger than their text at worst.
const TEXT: Allowance = Allowance { fixed: MIB, per_byte: 256 };

/// For readers of streams: LZ4 makes up to 255 bytes of one, and a buffer that grows is copied once.
const STREAM: Allowance = Allowance { fixed: 8 * MIB, per_byte: 1024 };

/// All targets.
pub const TARGETS: &[Target] = &[
    Target { name: "frame", body: stream::frame, allowance: TEXT, seeds: seeds::frames },
    Target { name: "meta", body: stream::meta, allowance: TEXT, seeds: seeds::metas },
    Target { name: "trailer", body: stream::trailer, allowance: TEXT, seeds: seeds::trailers },
    Target { name: "piece", body: stream::piece, allowance: STREAM, seeds: seeds::pieces },
    Target { name: "stream", body: stream::stream, allowance: STREAM, seeds: seeds::streams },
    Target {
        name: "stream_round_trip",
        body: stream::round_trip,
        allowance: Allowance { fixed: 64 * MIB, per_byte: 1024 },
        seeds: seeds::noise,
    },
    Target { name: "sidecar", body: sidecar::sidecar, allowance: TEXT, seeds: seeds::sidecars },
    Target {
        name: "recorder_round_trip",
        body: stream::recorder_round_trip,
        allowance: Allowance { fixed: 64 * MIB, per_byte: 1024 },
        seeds: seeds::noise,
    },
    Target { name: "names", body: chain::names, allowance: TEXT, seeds: seeds::names },
    Target { name: "checkpoint_list", body: chain::checkpoint_list, allowance: TEXT, seeds: seeds::lists },
    Target {
        name: "chain",
        body: chain::chain,
        // Four windows of the disk, which the body keeps small.
        allowance: Allowance { fixed: 96 * MIB, per_byte: 1024 },
        seeds: seeds::chains,
    },
    Target {
        name: "disk",
        body: disk::disk,
        // As a chain: windows of an extraction to compare with.
        allowance: Allowance { fixed: 96 * MIB, per_byte: 1024 },
        seeds: seeds::disks,
    },
    Target { name: "domain_xml", body: host::domain_xml, allowance: TEXT, seeds: seeds::domains },
    Target { name: "checkpoint_xml", body: host::checkpoint_xml, allowance: TEXT, seeds: seeds::checkpoints },
    Target {
        name: "checkpoint_round_trip",
        body: host::checkpoint_round_trip,
        allowance: TEXT,
        seeds: seeds::noise,
    },
    Target { name: "agent_reply", body: host::agent_reply, allowance: TEXT, seeds: seeds::agent_replies },
    Target { name: "block_status", body: host::block_status, allowance: TEXT, seeds: seeds::noise },
    Target {
        name: "glob",
        body: config::glob,
        // Places in a name, for each group and place.
        allowance: Allowance { fixed: 8 * MIB, per_byte: 64 << 10 },
        seeds: seeds::globs,
    },
    Target { name: "conf", body: config::conf, allowance: CONFIG, seeds: seeds::confs },
    Target { name: "toml", body: config::toml, allowance: CONFIG, seeds: seeds::tomls },
    Target { name: "config_round_trip", body: config::round_trip, allowance: CONFIG, seeds: seeds::noise },
];

/// Variables in a `.conf` file may multiply its text up to a limit of their own.
const CONFIG: Allowance = Allowance { fixed: 64 * MIB, per_byte: 1024 };

impl Target {
    /// The target of that name.
    pub fn find(name: &str) -> Option<&'static Self> {
        TARGETS.iter().find(|target| target.name == name)
    }

    /// Inputs that once broke a promise: the files in `fuzz/findings/NAME`, by name.
    ///
    /// # Errors
    /// When they cannot be read. No folder is no findings.
    pub fn findings(&self) -> std::io::Result<Vec<Vec<u8>>> {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../findings").join(self.name);
        if !dir.exists() {
            return Ok(Vec::new());
        }
        let mut paths = std::fs::read_dir(dir)?
            .map(|entry| entry.map(|entry| entry.path()))
            .collect::<std::io::Result<Vec<_>>>()?;
        paths.sort();
        paths.into_iter().map(std::fs::read).collect()
    }

    /// Gives the input to the reader.
    ///
    /// # Panics
    /// When a promise is broken, or the memory that the process took meanwhile is more than the reader may have: nothing
    /// else may run beside it.
    pub fn run(&self, input: &[u8]) {
        ALLOCATOR.reset_peak_usage();
        let before = ALLOCATOR.current_usage();
        (self.body)(input);
        let held = ALLOCATOR.peak_usage().saturating_sub(before);
        let allowed = self.allowance.fixed + self.allowance.per_byte * input.len();
        assert!(
            held <= allowed,
            "{}: {held} bytes held for {} of input, {allowed} allowed",
            self.name,
            input.len()
        );
    }
}

/// A target that takes more than it may, to show that this is seen.
pub fn greedy() -> Target {
    let body = |_: &[u8]| drop(std::hint::black_box(vec![1u8; 2 * MIB]));
    Target { name: "greedy", body, allowance: TEXT, seeds: Vec::new }
}

/// Gives the input to the target of that name.
///
/// # Panics
/// When there is none, and as [`Target::run`].
pub fn run(name: &str, input: &[u8]) {
    Target::find(name).unwrap().run(input);
}
