//! A program that is to be run: what it gets, and how long it may take.

use std::ffi::{OsStr, OsString};
use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::Duration;

use zeroize::Zeroizing;

use super::error::{ProgramError, Stopped};
use super::running::{Output, Running};
use super::start;

/// What a pipe takes without a reader (pipe(7)). More than that is never given to a program.
const INPUT_BYTES: usize = 64 << 10;

/// A program that is to be run. It dies with this process.
pub struct Program {
    name: OsString,
    arguments: Vec<OsString>,
    input: Option<Zeroizing<Vec<u8>>>,
    memory_bytes: Option<u64>,
}

impl Program {
    /// By its name in `PATH`, or its path.
    pub fn new(name: impl AsRef<OsStr>) -> Self {
        let name = name.as_ref().to_owned();
        Self { name, arguments: vec![], input: None, memory_bytes: None }
    }

    /// This very program, also when its file was replaced since. `argument` says what it is to be. Not by `/proc/self`,
    /// which whoever starts it would be.
    pub fn itself(argument: &str) -> Self {
        Self::new(format!("/proc/{}/exe", std::process::id())).arg(argument)
    }

    pub fn arg(mut self, argument: impl AsRef<OsStr>) -> Self {
        self.arguments.push(argument.as_ref().to_owned());
        self
    }

    pub fn args(mut self, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        self.arguments.extend(arguments.into_iter().map(|argument| argument.as_ref().to_owned()));
        self
    }

    /// What it reads from its standard input: a secret, which nobody sees there. At most 64 KiB.
    pub fn input(mut self, bytes: &[u8]) -> Self {
        debug_assert!(bytes.len() <= INPUT_BYTES);
        self.input = Some(Zeroizing::new(bytes.to_owned()));
        self
    }

    /// The most memory it may take, as address space (`RLIMIT_AS`).
    pub fn memory(mut self, bytes: u64) -> Self {
        self.memory_bytes = Some(bytes);
        self
    }

    /// Runs it to its end, and no longer than `limit`.
    pub fn run(self, limit: Duration, stopped: Stopped<'_>) -> Result<Output, ProgramError> {
        let name = self.name.clone();
        let running = self.start()?;
        let output = running.wait(limit, stopped)?;
        match output.status.code() {
            Some(start::NOT_FOUND) => Err(not_run(io::ErrorKind::NotFound, &name)),
            Some(start::NOT_EXECUTABLE) => Err(not_run(io::ErrorKind::PermissionDenied, &name)),
            _ => Ok(output),
        }
    }

    /// Starts it. It is ended when what is returned is dropped.
    pub fn start(self) -> Result<Running, ProgramError> {
        let stdin = if self.input.is_some() { Stdio::piped() } else { Stdio::null() };
        self.start_with(stdin)
    }

    /// As [`Self::start`], and it can be asked something then.
    pub(super) fn start_listening(self) -> Result<Running, ProgramError> {
        self.start_with(Stdio::piped())
    }

    fn start_with(self, stdin: Stdio) -> Result<Running, ProgramError> {
        let Self { name, arguments, input, memory_bytes } = self;
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--"]);
        if let Some(bytes) = memory_bytes {
            command.args(["prlimit", &format!("--as={bytes}"), "--"]);
        }
        command.arg(name).args(arguments);
        // A signal from a terminal reaches this process alone, which stops in order and ends the others.
        command.process_group(0);
        command.stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = start::start(command).map_err(|source| ProgramError::Start {
            source: match source.kind() {
                io::ErrorKind::NotFound => {
                    io::Error::new(source.kind(), "setpriv is missing (package util-linux)")
                }
                _ => source,
            },
        })?;
        if let Some((mut stdin, input)) = input.and_then(|input| Some((child.stdin.take()?, input))) {
            // Not taken: then it ends, and says why. It cannot block: a pipe holds so much.
            let _ = stdin.write_all(&input);
        }
        Ok(Running::of(child))
    }
}

fn not_run(kind: io::ErrorKind, name: &OsStr) -> ProgramError {
    let source = io::Error::new(kind, format!("{}: {}", name.to_string_lossy(), io::Error::from(kind)));
    ProgramError::Start { source }
}

#[cfg(test)]
mod tests {
    use super::super::error::NEVER;
    use super::super::running::MESSAGE_BYTES;
    use super::*;
    use std::time::Instant;

    const LONG: Duration = Duration::from_secs(60);

    fn shell(script: &str) -> Program {
        Program::new("sh").args(["-c", script])
    }

    /// Whether a process runs whose command line holds this word.
    fn is_there(word: &str) -> bool {
        let processes = std::fs::read_dir("/proc").expect("there are processes").flatten();
        let mut lines = processes.filter_map(|one| std::fs::read(one.path().join("cmdline")).ok());
        lines.any(|line| String::from_utf8_lossy(&line).contains(word))
    }

    #[test]
    fn gives_what_was_printed_and_how_it_ended() {
        let ended = shell("cat; echo heard >&2; exit 3").input(b"said").run(LONG, NEVER).unwrap();
        assert_eq!((ended.stdout.as_slice(), ended.message().as_str()), (&b"said"[..], "heard"));
        assert_eq!(ended.status.code(), Some(3));
        // More than the pipes hold, on both.
        let script = "head -c 3000000 /dev/zero; head -c 3000000 /dev/zero >&2; head -c 10 /dev/zero";
        let ended = shell(script).run(LONG, NEVER).unwrap();
        assert_eq!((ended.stdout.len(), ended.stderr.len()), (3_000_010, MESSAGE_BYTES));
    }

    #[test]
    fn what_is_not_installed_says_so() {
        let missing = Program::new("no-such-program-here").run(LONG, NEVER).unwrap_err();
        assert!(
            matches!(&missing, ProgramError::Start { source } if source.kind() == io::ErrorKind::NotFound)
        );
        assert!(missing.to_string().contains("no-such-program-here"), "{missing}");
    }

    #[test]
    fn one_that_hangs_is_given_up_and_dies() {
        let began = Instant::now();
        let hung = Program::new("sleep").arg("4001.1").run(Duration::from_millis(300), NEVER);
        assert!(matches!(hung, Err(ProgramError::TimedOut { .. })), "{hung:?}");
        let stopped =
            Program::new("sleep").arg("4001.2").run(LONG, &|| began.elapsed() > Duration::from_secs(1));
        assert!(matches!(stopped, Err(ProgramError::Stopped)), "{stopped:?}");
        // It closes its pipes, and stays.
        let silent = shell("exec >&- 2>&-; exec sleep 4001.3").run(Duration::from_millis(300), NEVER);
        assert!(matches!(silent, Err(ProgramError::TimedOut { .. })), "{silent:?}");
        assert!(began.elapsed() < LONG);
        ["4001.1", "4001.2", "4001.3"].iter().for_each(|sleep| assert!(!is_there(sleep), "{sleep}"));
    }

    #[test]
    fn output_and_memory_have_ends() {
        let endless = Program::new("cat").arg("/dev/zero").run(LONG, NEVER);
        assert!(matches!(endless, Err(ProgramError::TooMuch { .. })), "{endless:?}");
        let greedy = || Program::new("dd").args(["if=/dev/zero", "of=/dev/null", "bs=800M", "count=1"]);
        assert!(greedy().run(LONG, NEVER).unwrap().status.success());
        assert!(!greedy().memory(400 << 20).run(LONG, NEVER).unwrap().status.success());
    }

    #[test]
    fn each_question_has_its_line() {
        let script =
            "while read -r one; do echo \"$one!\"; [ $one = two ] && printf half && exec sleep 4001.5; done";
        let mut running = shell(script).start_listening().unwrap();
        let mut ask = |question: &str, limit| running.ask(question.as_bytes(), limit, NEVER);
        assert_eq!(ask("one\n", LONG).unwrap().as_deref(), Some(&b"one!"[..]));
        assert_eq!(ask("two\n", LONG).unwrap().as_deref(), Some(&b"two!"[..]));
        let hung = ask("three\n", Duration::from_millis(300));
        assert!(matches!(hung, Err(ProgramError::TimedOut { .. })), "half a line is none: {hung:?}");
        drop(running);
        assert!(!is_there("4001.5"));
    }

    #[test]
    fn who_has_ended_answers_nothing() {
        let mut running = shell("read -r one; exit").start_listening().unwrap();
        assert_eq!(running.ask(b"one\n", LONG, NEVER).unwrap(), None);
        assert_eq!(running.ask(b"two\n", LONG, NEVER).unwrap(), None);
    }

    #[test]
    fn a_thread_that_started_one_may_end() {
        let started = || Program::new("sleep").arg("4001.4").start().unwrap();
        let mut running = std::thread::spawn(started).join().unwrap();
        std::thread::sleep(Duration::from_millis(200));
        assert!(running.ended().is_none(), "it dies with the process, not with the thread");
        drop(running);
        assert!(!is_there("4001.4"));
    }
}
