//! `vmstream convert`: writes a backup set again in a new folder.

use super::exit::Exit;
use super::failure::Failure;
use super::output::{say, say_json, warn};
use super::progress::Bar;
use super::until::{self, Until};
use serde_json::{Value, json};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use vmstream::chain::{BackupSet, PointId, Severity};
use vmstream::convert::{Compression, ConvertOptions, Converted, Shape, convert, total_bytes};
use vmstream::stream::writer::FRAME_LEN;
use vmstream::text;

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  vmstream convert /backup/vm/202611 --to /archive/vm --compression zstd
  vmstream convert /backup/vm/202611 --to /archive/vm --squash --until latest

Exit codes: 0 done, 1 the backup set is damaged, 2 cannot tell or wrong usage;
            nothing is left of the new folder then, unless the message says that it is complete")]
pub(super) struct Args {
    /// Folder of the backup set; nothing in it is changed
    dir: PathBuf,
    /// Folder to make; it appears when all of it is written
    #[arg(long, value_name = "NEWDIR")]
    to: PathBuf,
    /// How to store the content
    #[arg(long, value_enum, default_value_t = Method::Lz4)]
    compression: Method,
    /// Level, 1 if not given. lz4: 1 and 2 are fast, 3 to 16 denser; zstd: 1 to 19, and virtnbdrestore cannot read it
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=19))]
    level: Option<u32>,
    /// Make one new full of the chain
    #[arg(long)]
    squash: bool,
    #[arg(long, value_name = "POINT", requires = "squash", help = until::HELP)]
    until: Option<Until>,
    /// Make the new full also of streams that do not belong together, or that give another disk than was backed up
    #[arg(long, requires = "squash")]
    no_check: bool,
    /// Print JSON
    #[arg(long)]
    pub(super) json: bool,
    /// Threads; each needs up to 64 MiB, with --squash 160 MiB
    #[arg(long, default_value_t = super::default_workers())]
    workers: NonZeroUsize,
}

/// Ways to store content, as people type them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Method {
    Lz4,
    Zstd,
    None,
}

pub(super) fn run(args: &Args) -> Result<Exit, Failure> {
    let compression = match (args.compression, args.level) {
        (Method::None, Some(_)) => {
            return Err(Failure::refused(
                "--level means nothing without compression: leave one of the two out",
            ));
        }
        (Method::None, None) => Compression::None,
        (Method::Lz4, Some(17..)) => {
            return Err(Failure::refused("levels of lz4 end at 16"));
        }
        (Method::Lz4, level) => Compression::Lz4(level.unwrap_or(1)),
        (Method::Zstd, level) => Compression::Zstd(level.unwrap_or(1)),
    };
    let set = BackupSet::open(&args.dir).map_err(|error| Failure::of(&error, Exit::CannotTell))?;
    let shape = match args.squash {
        true => Shape::Full(Until::find(args.until.as_ref(), &set)?.id),
        false => Shape::SamePoints,
    };
    let options =
        ConvertOptions { compression, frame_len: FRAME_LEN, check: !args.no_check, workers: args.workers };
    let bar = Bar::new(0);
    let done = total_bytes(&set, shape, options.check).and_then(|total| {
        bar.set_total(total);
        convert(&set, shape, &args.to, options, &bar)
    });
    bar.clear();
    match done {
        Ok(done) => {
            let damage = set.problems.iter().filter(|problem| problem.severity() == Severity::Damage);
            for problem in damage.map(ToString::to_string).filter(|text| !done.passed_over.contains(text)) {
                warn(format!("not needed for the new full: {problem}"));
            }
            warnings(&done, shape).iter().for_each(warn);
            Ok(match args.json {
                true => say_json(&as_json(args, &set, &done, shape)),
                false => say(&as_text(args, &done, shape)),
            })
        }
        Err(error) => {
            let exit = if error.is_damage() { Exit::Damaged } else { Exit::CannotTell };
            Err(Failure::of(&error, exit))
        }
    }
}

/// What the person who trusts the new set should know.
fn warnings(done: &Converted, shape: Shape) -> Vec<String> {
    let mut warnings: Vec<_> = done
        .passed_over
        .iter()
        .map(|problem| format!("the new full is made of it all the same, and nothing in it tells: {problem}"))
        .collect();
    warnings.extend(done.unused_sidecars.iter().map(ToString::to_string));
    for stream in &done.streams {
        for source in &stream.unproven {
            warnings.push(format!("nothing proves {source}: {} holds what was read there", stream.file));
        }
    }
    for image in done.raw_images.iter().filter(|image| !image.proven) {
        warnings.push(format!("nothing proves {}: it was copied as it was read", image.file));
    }
    if let Shape::Full(point) = shape {
        for image in done.raw_images.iter().filter(|image| image.taken != point) {
            warnings.push(format!(
                "{} is a raw disk: its content is that of {}, not of {point}",
                image.disk, image.taken
            ));
        }
        if done.suspect {
            warnings.push(format!(
                "{point} is made of increments by virtnbdbackup that may have lost changes when they were written; \
                 the new full has the same content (vmstream doctor says more about the old set)"
            ));
        }
    }
    warnings
}

fn as_text(args: &Args, done: &Converted, shape: Shape) -> String {
    let row = |stream: &vmstream::convert::ConvertedStream| {
        vec![
            stream.file.clone(),
            format!("{} of {}", text::size(stream.file_bytes), text::size(stream.data_bytes)),
            format!("was {}", text::size(stream.source_bytes)),
        ]
    };
    let rows: Vec<_> = done.streams.iter().map(row).collect();
    let sum = |bytes: fn(&vmstream::convert::ConvertedStream) -> u64| done.streams.iter().map(bytes).sum();
    let (before, after) = (sum(|stream| stream.source_bytes), sum(|stream| stream.file_bytes));
    let what = match shape {
        Shape::SamePoints => text::count(done.points.len(), "restore point"),
        Shape::Full(point) => format!("{point} as one new full"),
    };
    let sizes = format!("{}, was {}", text::size(after), text::size(before));
    let last = format!("{}: {what}, {} ({sizes})\n", args.to.display(), method(args));
    let note = match shape {
        Shape::SamePoints => "",
        Shape::Full(_) => NO_INCREMENTS,
    };
    format!("{}\n{last}{note}", text::table(&rows))
}

/// What a new full is not.
const NO_INCREMENTS: &str = "\
No increment can follow it: libvirt has no checkpoint for it. Keep it beside the chain that goes on, or as an archive:
a backup program that finds it in the place of its chain begins a new one, or refuses.
";

fn method(args: &Args) -> String {
    match args.compression {
        Method::None => "uncompressed".to_owned(),
        Method::Lz4 => format!("LZ4 level {}", args.level.unwrap_or(1)),
        Method::Zstd => format!("zstd level {}", args.level.unwrap_or(1)),
    }
}

fn as_json(args: &Args, set: &BackupSet, done: &Converted, shape: Shape) -> Value {
    let stream = |stream: &vmstream::convert::ConvertedStream| {
        json!({
            "file": stream.file,
            "disk": stream.disk.to_string(),
            "source_bytes": stream.source_bytes,
            "file_bytes": stream.file_bytes,
            "data_bytes": stream.data_bytes,
            "unproven_sources": stream.unproven,
        })
    };
    let raw = |image: &vmstream::convert::RawCopy| json!({"file": image.file, "disk": image.disk.to_string(), "taken": image.taken.to_string()});
    let (compression, level) = match args.compression {
        Method::None => ("none", Value::Null),
        Method::Lz4 => ("lz4", args.level.unwrap_or(1).into()),
        Method::Zstd => ("zstd", args.level.unwrap_or(1).into()),
    };
    let squashed = match shape {
        Shape::SamePoints => Value::Null,
        Shape::Full(point) => point.to_string().into(),
    };
    json!({
        "schema": "vmstream/convert/1",
        "dir": set.dir.display().to_string(),
        "to": args.to.display().to_string(),
        "compression": compression,
        "level": level,
        "squashed": squashed,
        "points": done.points.iter().map(PointId::to_string).collect::<Vec<_>>(),
        "streams": done.streams.iter().map(stream).collect::<Vec<_>>(),
        "raw_images": done.raw_images.iter().map(raw).collect::<Vec<_>>(),
        "warnings": warnings(done, shape),
    })
}
