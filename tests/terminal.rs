//! What a person sees in a terminal while a program is at work, and after it was ended: in tmux, at 80 and at 200 columns.

use std::path::PathBuf;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use lab::{DiskSpec, Lab, Op, Vm, VmSpec, must, program};

const MIB: u64 = 1 << 20;

/// A terminal that does not come to what is wanted of it is a failed test.
const LIMIT: Duration = Duration::from_secs(120);

/// Stands alone at the beginning of a line when the shell waits for the next command.
const PROMPT: &str = "ready>";

/// A terminal with a shell in it. Gone when dropped.
struct Terminal {
    socket: PathBuf,
}

impl Terminal {
    fn new(lab: &Lab, columns: u16) -> Self {
        let terminal = Self { socket: lab.path().join(format!("tmux-{columns}")) };
        let size = columns.to_string();
        // Without a configuration of the host's, and with a shell that shows nothing of its own.
        let new =
            ["new-session", "-d", "-x", &size, "-y", "24", "env", "-i", "TERM=screen", "PATH=/usr/bin:/bin"];
        terminal.tmux(&[&new[..], &["LANG=C.UTF-8", "PS1=ready>", "sh"]].concat());
        terminal.wait_for("a shell", |screen| screen.lines().any(|line| line == PROMPT));
        terminal
    }

    fn tmux(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new("tmux");
        let command = command.args(["-u", "-f", "/dev/null", "-S"]).arg(&self.socket).args(arguments);
        let output = command.output().expect("tmux is installed (scripts/install-deps.sh lab)");
        assert!(output.status.success(), "tmux {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        output
    }

    /// Types a line.
    fn enter(&self, line: &str) {
        self.tmux(&["send-keys", "-l", line]);
        self.tmux(&["send-keys", "Enter"]);
    }

    fn screen(&self) -> String {
        String::from_utf8_lossy(&self.tmux(&["capture-pane", "-p"]).stdout).into_owned()
    }

    /// Column of the cursor, and whether it is shown.
    fn cursor(&self) -> (String, String) {
        let told = self.tmux(&["display-message", "-p", "#{cursor_x} #{cursor_flag}"]);
        let told = String::from_utf8_lossy(&told.stdout).trim().to_owned();
        let (column, shown) = told.split_once(' ').expect("two words");
        (column.to_owned(), shown.to_owned())
    }

    #[track_caller]
    fn wait_for(&self, what: &str, is_so: impl Fn(&str) -> bool) -> String {
        let began = Instant::now();
        loop {
            let screen = self.screen();
            if is_so(&screen) {
                return screen;
            }
            assert!(began.elapsed() < LIMIT, "no {what}:\n{screen}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits until the shell waits, and sees that nothing of what was drawn is left.
    #[track_caller]
    fn assert_clean(&self) -> String {
        let is_ready = |screen: &str| screen.trim_end().lines().last() == Some(PROMPT);
        let screen = self.wait_for("prompt on a line of its own", is_ready);
        assert!(bars(&screen).is_empty() && !screen.contains("VMs done:"), "{screen}");
        assert_eq!(self.cursor(), (PROMPT.len().to_string(), "1".to_owned()), "{screen}");
        screen
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = Command::new("tmux").arg("-S").arg(&self.socket).arg("kill-server").output();
    }
}

/// Lines with a bar.
fn bars(screen: &str) -> Vec<&str> {
    screen.lines().filter(|line| line.contains('[') && line.contains('%')).collect()
}

/// A VM with disks that take a while at a MiB a second.
fn vm_with_data(lab: &Lab) -> Vm {
    let noise = lab.path().join("noise");
    must(Command::new("sh").arg("-c").arg(format!("head -c 64M /dev/urandom >'{}'", noise.display())));
    let name = "a-long-name-of-a-database-server";
    let disks =
        [DiskSpec::new("vda", 64 * MIB).content(&noise), DiskSpec::new("vdb", 64 * MIB).content(&noise)];
    let vm = lab.define(&disks.into_iter().fold(VmSpec::new(name), VmSpec::disk));
    vm.start_paused();
    vm
}

/// The line that runs the backup of a VM.
fn run_line(lab: &Lab, vm: &Vm) -> String {
    let command = lab.vmbackup_command();
    let words = [command.get_program()].into_iter().chain(command.get_args());
    let words: Vec<String> = words.map(|word| format!("'{}'", word.to_string_lossy())).collect();
    let set = |(name, value): (&std::ffi::OsStr, Option<&std::ffi::OsStr>)| {
        value.map(|value| format!("{}='{}' ", name.to_string_lossy(), value.to_string_lossy()))
    };
    let environment: String = command.get_envs().filter_map(set).collect();
    format!("clear; {environment}{} --run --vm '{}'", words.join(" "), vm.name())
}

#[test]
fn progress_fits_the_terminal_and_nothing_of_it_stays() {
    let lab = Lab::new("terminal");
    lab.configure(&[("TARGET_BANDWIDTH", "1"), ("COMPRESSION", "none"), ("LOG_LEVEL", "WARN")]);
    let vm = vm_with_data(&lab);
    for columns in [80, 200] {
        let terminal = Terminal::new(&lab, columns);
        terminal.enter(&run_line(&lab, &vm));
        // At first nothing is guessed.
        let screen = terminal.wait_for("bar for each disk", |screen| bars(screen).len() == 2);
        assert!(!screen.contains("0s left"), "{screen}");
        let screen = terminal.wait_for("rate and time", |screen| {
            bars(screen).iter().all(|bar| bar.contains("/s ") && bar.ends_with(" left"))
        });
        for target in [" vda [", " vdb ["] {
            assert!(bars(&screen).iter().any(|bar| bar.contains(target)), "{screen}");
        }
        for bar in bars(&screen) {
            assert_eq!(bar.contains(vm.name()), columns == 200, "{screen}");
            assert_eq!(bar.contains(" of 64.0 MiB"), columns == 200, "{screen}");
        }
        let of_run =
            screen.lines().filter(|line| line.starts_with("VMs done: 0 of 1, disks under way: 2, read: "));
        assert_eq!(of_run.count(), 1, "{screen}");
        // Ctrl-C: it ends in order, and what was drawn is gone at once.
        terminal.tmux(&["send-keys", "C-c"]);
        let screen = terminal.assert_clean();
        assert!(screen.contains("stopping in order"), "{screen}");
        // The second one ends at once, wherever the run is.
        terminal.enter(&run_line(&lab, &vm));
        terminal.wait_for("bar", |screen| !bars(screen).is_empty());
        terminal.tmux(&["send-keys", "C-c"]);
        terminal.tmux(&["send-keys", "C-c"]);
        terminal.assert_clean();
    }
    // One that ends well shows its table.
    lab.configure(&[("LOG_LEVEL", "WARN")]);
    let terminal = Terminal::new(&lab, 100);
    terminal.enter(&run_line(&lab, &vm));
    terminal.wait_for("table", |screen| screen.contains("1 backed up"));
    terminal.assert_clean();
}

#[test]
fn progress_of_vmstream_fits_the_terminal_and_nothing_of_it_stays() {
    let lab = Lab::new("terminal_vmstream");
    lab.configure(&[("COMPRESSION", "none")]);
    let vm = vm_with_data(&lab);
    lab.run_well(&vm);
    let faulty = lab.faulty_file_system("slow");
    must(Command::new("cp").arg("-a").arg(lab.vm_dir(&vm)).arg(faulty.path()));
    let verify = format!("clear; '{}' verify '{}'", program("vmstream").display(), faulty.text());
    for columns in [80, 200] {
        let terminal = Terminal::new(&lab, columns);
        // Of some 1000 reads.
        let hang = faulty.hang_after(Op::Read, "vda.full.data", 200);
        terminal.enter(&verify);
        let screen = terminal.wait_for("bar", |screen| !bars(screen).is_empty());
        assert!(!screen.contains("0s left"), "{screen}");
        let screen = terminal.wait_for("rate and time", |screen| {
            bars(screen).iter().any(|bar| bar.contains("/s ") && bar.ends_with(" left"))
        });
        assert_eq!(bars(&screen).len(), 1, "{screen}");
        assert!(bars(&screen)[0].contains(" MiB of 128 MiB "), "{screen}");
        terminal.tmux(&["send-keys", "C-c"]);
        let screen = terminal.assert_clean();
        assert!(screen.contains("error: Ended by"), "{screen}");
        drop(hang);
    }
    // One that goes on to its end.
    let terminal = Terminal::new(&lab, 80);
    let hang = faulty.hang_after(Op::Read, "vda.full.data", 200);
    terminal.enter(&verify);
    terminal.wait_for("bar", |screen| !bars(screen).is_empty());
    drop(hang);
    terminal.wait_for("result", |screen| screen.contains("1 proven"));
    terminal.assert_clean();
}
