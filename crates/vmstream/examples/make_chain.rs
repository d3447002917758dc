//! Makes a chain out of a raw image: a full, and increments that each write the same data again.
//!
//! For measurements: `cargo run --release -p vmstream --example make_chain IMAGE DIR INCREMENTS LEVEL`,
//! LEVEL 0 for an uncompressed chain.

use std::fs::{File, FileTimes};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, SystemTime};
use vmstream::chain::{CheckpointName, cpt};
use vmstream::stream::writer::StreamWriter;
use vmstream::stream::{Compression, StreamMeta, codec};

const FRAME_LEN: usize = 4 << 20;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().collect();
    let [_, image, dir, increments, level] = &args[..] else {
        return Err("usage: make_chain IMAGE DIR INCREMENTS LEVEL".into());
    };
    let (increments, level): (u32, u32) = (increments.parse()?, level.parse()?);
    let (image, dir) = (File::open(image)?, Path::new(dir));
    std::fs::create_dir_all(dir)?;
    let size = image.metadata()?.len();
    let start = SystemTime::now() - Duration::from_secs(86400);
    let names: Vec<_> = (0..=increments).map(CheckpointName::new).collect();
    for name in &names {
        let number = name.number();
        let parent = number.checked_sub(1).map(|before| CheckpointName::new(before).to_string());
        let meta = StreamMeta {
            virtual_size: size,
            data_size: 0,
            date: "2026-11-22T20:02:30.768021".to_owned(),
            disk_name: "vda".to_owned(),
            disk_format: "qcow2".to_owned(),
            checkpoint_name: name.to_string(),
            compression: (level > 0).then_some(Compression::Lz4(level)),
            incremental: parent.is_some(),
            parent_checkpoint: parent.unwrap_or_default(),
            stream_version: 2,
        };
        let file = if number == 0 { "vda.full.data".to_owned() } else { format!("vda.inc.{name}.data") };
        let done = write(&image, &dir.join(&file), meta)?;
        std::fs::write(dir.join(format!("{file}.chksum")), done.1.to_string())?;
        let time = start + Duration::from_secs(60 * u64::from(number));
        done.0.set_times(FileTimes::new().set_modified(time))?;
        let config = dir.join(format!("vmconfig.{name}.xml"));
        std::fs::write(&config, "<domain type='qemu'>\n  <name>measured</name>\n</domain>\n")?;
        File::open(config)?.set_times(FileTimes::new().set_modified(time))?;
    }
    std::fs::write(dir.join("measured.cpt"), cpt::encode(&names))?;
    Ok(())
}

fn write(image: &File, path: &Path, meta: StreamMeta) -> Result<(File, u32), Box<dyn std::error::Error>> {
    let (size, compression) = (meta.virtual_size, meta.compression);
    let mut writer = StreamWriter::create(path, meta)?;
    let (mut plain, mut stored, mut at) = (vec![0; FRAME_LEN], Vec::new(), 0);
    while at < size {
        let len = FRAME_LEN.min(usize::try_from(size - at)?);
        image.read_exact_at(&mut plain[..len], at)?;
        if plain[..len].iter().all(|byte| *byte == 0) {
            writer.zero(at, len as u64)?;
        } else if let Some(compression) = compression {
            stored.clear();
            codec::compress(&plain[..len], compression, &mut stored)?;
            writer.data(at, len as u64, &stored)?;
        } else {
            writer.data(at, len as u64, &plain[..len])?;
        }
        at += len as u64;
    }
    let done = writer.finish()?;
    Ok((done.file, done.adler32))
}
