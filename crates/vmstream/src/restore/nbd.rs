//! A qcow2 file as plain bytes: `qemu-nbd` serves it on a socket in a folder of our own, we read ranges.
//!
//! The few NBD messages that takes are spelled out here, so that no library is needed on a rescue system.
//! Source: the NBD protocol text, fixed newstyle handshake, NBD_OPT_GO, simple replies.

use crate::unfinished::Unfinished;
use std::io::{self, Read, Write};
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

const SERVER_MAGIC: u64 = 0x4e42_444d_4147_4943;
const OPTION_MAGIC: u64 = 0x4948_4156_454f_5054;
const OPTION_REPLY_MAGIC: u64 = 0x0003_e889_0455_65a9;
const REQUEST_MAGIC: u32 = 0x2560_9513;
const REPLY_MAGIC: u32 = 0x6744_6698;
const OPT_GO: u32 = 7;
const REP_ACK: u32 = 1;
const REP_INFO: u32 = 3;
const FIXED_NEWSTYLE_NO_ZEROES: u32 = 3;
const CMD_READ: u16 = 0;

/// qemu counts in sectors: what it serves or makes has whole ones.
pub(super) const SECTOR: u64 = 512;

/// Bytes of one request. Servers take up to 32 MiB.
const REQUEST_LEN: usize = 8 << 20;

/// A server that has not opened its socket by then never will.
const START_LIMIT: Duration = Duration::from_secs(30);

/// The longest path that a socket can have (unix(7): 108 bytes with the NUL at its end).
const MAX_SOCKET_LEN: usize = 107;

/// How long a server may take to be gone after its connections are.
const END_LIMIT: Duration = Duration::from_secs(2);

/// No answer for so long means that there will be none.
const REPLY_LIMIT: Duration = Duration::from_secs(300);

/// A running `qemu-nbd` and connections to it. It ends by itself when the last connection closes.
#[derive(Debug)]
pub(super) struct Nbd {
    size: u64,
    idle: Mutex<Vec<UnixStream>>,
    child: Child,
    /// What goes with us when we are ended.
    _running: Unfinished,
    /// The folder of the socket.
    _dir: Unfinished,
}

impl Nbd {
    /// Serves `image` (of `format`) to so many threads at once.
    pub(super) fn serve(image: &Path, format: &str, connections: usize) -> io::Result<Self> {
        let (dir, unfinished) = socket_dir()?;
        let socket = dir.join("socket");
        let mut command = Command::new("qemu-nbd");
        command.arg("--socket").arg(&socket).arg("--format").arg(format);
        command.arg(format!("--shared={connections}"));
        command.arg("--read-only");
        // As an option, so that a name with a colon is no protocol and one with a dash no option.
        command.arg("--").arg(std::path::absolute(image)?);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let (child, running) = Unfinished::program(&mut command)?;
        let mut nbd =
            Self { size: 0, idle: Mutex::new(Vec::new()), child, _running: running, _dir: unfinished };
        let first = nbd.first_connection(&socket)?;
        match shaken(first, &socket, connections) {
            Ok((streams, size)) => {
                (nbd.idle, nbd.size) = (Mutex::new(streams), size);
                Ok(nbd)
            }
            // It listens before it opens the image: what it cannot open it says when it ends, and we see a broken connection.
            Err(error) => Err(nbd.ended_with().unwrap_or(error)),
        }
    }

    /// Why the server ended, if it does so within moments.
    fn ended_with(&mut self) -> Option<io::Error> {
        let until = Instant::now() + END_LIMIT;
        while self.child.try_wait().ok()?.is_none() {
            if Instant::now() >= until {
                return None;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Some(io::Error::other(format!("qemu-nbd: {}", self.last_words())))
    }

    fn first_connection(&mut self, socket: &Path) -> io::Result<UnixStream> {
        let start = Instant::now();
        loop {
            match UnixStream::connect(socket) {
                Ok(stream) => return Ok(stream),
                Err(_) if start.elapsed() < START_LIMIT => {}
                Err(error) => return Err(error),
            }
            if self.child.try_wait()?.is_some() {
                return Err(io::Error::other(format!("qemu-nbd: {}", self.last_words())));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// What a server that has ended said, on one line.
    fn last_words(&mut self) -> String {
        let mut text = String::new();
        if let Some(stderr) = self.child.stderr.take() {
            let _ = stderr.take(1 << 16).read_to_string(&mut text);
        }
        text.trim().trim_start_matches("qemu-nbd: ").replace('\n', " ")
    }

    /// Bytes of the disk inside the image.
    pub(super) fn size(&self) -> u64 {
        self.size
    }

    pub(super) fn read_at(&self, mut at: u64, out: &mut [u8]) -> io::Result<()> {
        self.with(|stream| {
            for part in out.chunks_mut(REQUEST_LEN) {
                request(stream, at, part.len() as u32)?;
                stream.read_exact(part)?;
                at += part.len() as u64;
            }
            Ok(())
        })
    }

    /// Takes a connection, gives it back when what was done went well: after an error its place in the protocol is lost.
    fn with<T>(&self, act: impl FnOnce(&mut UnixStream) -> io::Result<T>) -> io::Result<T> {
        let Some(mut stream) = self.lock().pop() else {
            return Err(io::Error::new(io::ErrorKind::NotConnected, "no connection to qemu-nbd is left"));
        };
        let done = act(&mut stream)?;
        self.lock().push(stream);
        Ok(done)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<UnixStream>> {
        self.idle.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Drop for Nbd {
    fn drop(&mut self) {
        self.lock().clear();
        // Nothing of the image is wanted any more, or it was read only; a server that has ended is not hurt.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A folder that only we may enter: whoever reaches the socket can read the disk.
fn socket_dir() -> io::Result<(PathBuf, Unfinished)> {
    let parent = std::env::temp_dir();
    for attempt in 0..1000 {
        let dir = parent.join(format!("vmstream-{}-{attempt}", std::process::id()));
        if dir.join("socket").as_os_str().len() > MAX_SOCKET_LEN {
            let text = format!(
                "no socket can be in {}: its path is too long; set TMPDIR to a shorter one",
                parent.display()
            );
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        match Unfinished::folder(&dir, || std::fs::DirBuilder::new().mode(0o700).create(&dir)) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            done => return done.map(|unfinished| (dir, unfinished)),
        }
    }
    Err(io::ErrorKind::AlreadyExists.into())
}

/// So many connections, the first of which is there already, and the size of what is served.
fn shaken(first: UnixStream, socket: &Path, connections: usize) -> io::Result<(Vec<UnixStream>, u64)> {
    let (mut streams, mut size) = (vec![first], 0);
    for _ in 1..connections {
        streams.push(UnixStream::connect(socket)?);
    }
    for stream in &mut streams {
        stream.set_read_timeout(Some(REPLY_LIMIT))?;
        stream.set_write_timeout(Some(REPLY_LIMIT))?;
        size = handshake(stream)?;
    }
    Ok((streams, size))
}

/// Asks for the default export and returns its size.
fn handshake(stream: &mut UnixStream) -> io::Result<u64> {
    if (u64_from(stream)?, u64_from(stream)?) != (SERVER_MAGIC, OPTION_MAGIC) {
        return Err(broken("greeting"));
    }
    u16_from(stream)?;
    let mut ask = FIXED_NEWSTYLE_NO_ZEROES.to_be_bytes().to_vec();
    ask.extend(OPTION_MAGIC.to_be_bytes());
    ask.extend(OPT_GO.to_be_bytes());
    // Six bytes follow: an empty export name and no information asked for.
    ask.extend(6u32.to_be_bytes());
    ask.extend([0; 6]);
    stream.write_all(&ask)?;
    let mut size = None;
    loop {
        if u64_from(stream)? != OPTION_REPLY_MAGIC || u32_from(stream)? != OPT_GO {
            return Err(broken("option reply"));
        }
        let (kind, len) = (u32_from(stream)?, u32_from(stream)?);
        if len > 1 << 16 {
            return Err(broken("option reply"));
        }
        let mut data = vec![0; len as usize];
        stream.read_exact(&mut data)?;
        match (kind, &data[..]) {
            (REP_ACK, _) => return size.ok_or_else(|| broken("export")),
            (REP_INFO, [0, 0, a, b, c, d, e, f, g, h, ..]) => {
                size = Some(u64::from_be_bytes([*a, *b, *c, *d, *e, *f, *g, *h]));
            }
            (REP_INFO, _) => {}
            _ => return Err(broken("export")),
        }
    }
}

/// Asks for bytes and takes its reply's head. One at a time on a connection, so replies cannot be out of order.
fn request(stream: &mut UnixStream, at: u64, len: u32) -> io::Result<()> {
    let mut head = REQUEST_MAGIC.to_be_bytes().to_vec();
    head.extend(0u16.to_be_bytes());
    head.extend(CMD_READ.to_be_bytes());
    head.extend(0u64.to_be_bytes());
    head.extend(at.to_be_bytes());
    head.extend(len.to_be_bytes());
    stream.write_all(&head)?;
    if u32_from(stream)? != REPLY_MAGIC {
        return Err(broken("reply"));
    }
    let error = u32_from(stream)?;
    u64_from(stream)?;
    match i32::try_from(error) {
        Ok(0) => Ok(()),
        // The protocol's error numbers are those of Linux.
        Ok(error) => Err(io::Error::from_raw_os_error(error)),
        Err(_) => Err(broken("reply")),
    }
}

fn broken(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("qemu-nbd sent an unusable {what}"))
}

fn u16_from(stream: &mut UnixStream) -> io::Result<u16> {
    let mut bytes = [0; 2];
    stream.read_exact(&mut bytes).map(|()| u16::from_be_bytes(bytes))
}

fn u32_from(stream: &mut UnixStream) -> io::Result<u32> {
    let mut bytes = [0; 4];
    stream.read_exact(&mut bytes).map(|()| u32::from_be_bytes(bytes))
}

fn u64_from(stream: &mut UnixStream) -> io::Result<u64> {
    let mut bytes = [0; 8];
    stream.read_exact(&mut bytes).map(|()| u64::from_be_bytes(bytes))
}
