//! One line of a log, and how it looks in each place.

use std::fmt::Write;

use jiff::Zoned;
use serde_json::json;
use tracing::Level;

/// Width of the lines around the head and the end of a session.
pub const HEADER_WIDTH: usize = 80;

/// One event, with where it comes from.
pub(super) struct Line<'a> {
    pub(super) at: &'a Zoned,
    pub(super) level: Level,
    /// Path of the Rust module, without the crate.
    pub(super) module: &'a str,
    /// The innermost span: what was being done.
    pub(super) doing: &'a str,
    pub(super) vm: Option<&'a str>,
    pub(super) disk: Option<&'a str>,
    pub(super) message: &'a str,
}

impl<'a> Line<'a> {
    /// A warning about the log itself.
    pub(super) fn of_log(at: &'a Zoned, message: &'a str) -> Self {
        Self { at, level: Level::WARN, module: "log", doing: "write", vm: None, disk: None, message }
    }
}

impl Line<'_> {
    /// `[2026-11-22 18:58:30 UTC] [INFO] [module] [function] message`, as the Bash program writes it. A message of
    /// several lines becomes several such lines.
    pub(super) fn for_file(&self) -> String {
        let at = self.at.strftime("%Y-%m-%d %H:%M:%S %Z");
        let head = format!("[{at}] [{}] [{}] [{}]", self.level_name(), self.module, self.doing);
        self.each_line(|text, line| {
            let _ = writeln!(text, "{head} {line}");
        })
    }

    /// With the priority in front that systemd-journald takes off again.
    ///
    /// Source: sd-daemon(3), "prefix strings".
    pub(super) fn for_journal(&self) -> String {
        let priority = match self.level {
            Level::ERROR => 3,
            Level::WARN => 4,
            Level::INFO => 6,
            _ => 7,
        };
        self.each_line(|text, line| {
            let _ = writeln!(text, "<{priority}>{line}");
        })
    }

    /// For somebody who looks on.
    pub(super) fn for_terminal(&self, colors: bool) -> String {
        let color = match self.level {
            Level::ERROR => "31",
            Level::WARN => "33",
            _ => "2",
        };
        let name = self.level_name();
        self.each_line(|text, line| {
            let _ = if colors {
                writeln!(text, "\x1b[{color}m{name:>5}\x1b[0m {line}")
            } else {
                writeln!(text, "{name:>5} {line}")
            };
        })
    }

    /// One JSON object.
    pub(super) fn for_programs(&self) -> String {
        let mut object = json!({
            "time": self.at.strftime("%Y-%m-%dT%H:%M:%S%.3f%:z").to_string(),
            "level": self.level_name().to_ascii_lowercase(),
            "module": self.module,
            "function": self.doing,
            "message": self.message,
        });
        for (name, value) in [("vm", self.vm), ("disk", self.disk)] {
            if let Some(value) = value {
                object[name] = value.into();
            }
        }
        format!("{object}\n")
    }

    fn level_name(&self) -> &'static str {
        match self.level {
            Level::ERROR => "ERROR",
            Level::WARN => "WARN",
            Level::INFO => "INFO",
            _ => "DEBUG",
        }
    }

    /// The lines of the message, each with the VM and the disk in front, and nothing in them that moves a cursor.
    fn each_line(&self, mut write: impl FnMut(&mut String, &str)) -> String {
        let mut subject = self.vm.unwrap_or_default().to_owned();
        if let Some(disk) = self.disk {
            subject += if subject.is_empty() { "" } else { " " };
            subject += disk;
        }
        if !subject.is_empty() {
            subject += ": ";
        }
        let mut text = String::new();
        let lines = self.message.lines().chain(self.message.is_empty().then_some(""));
        for line in lines {
            let line = format!("{subject}{line}");
            let plain: String = line.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
            write(&mut text, plain.trim_end());
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line<'a>(at: &'a Zoned, message: &'a str) -> Line<'a> {
        Line {
            at,
            level: Level::WARN,
            module: "engine::live",
            doing: "back_up",
            vm: Some("web 1"),
            disk: Some("vda"),
            message,
        }
    }

    fn at() -> Zoned {
        jiff::civil::date(2026, 2, 6).at(1, 2, 3, 456_000_000).in_tz("Europe/Berlin").unwrap()
    }

    #[test]
    fn looks_right_in_each_place() {
        let at = at();
        let line = line(&at, "slow");
        let want = "[2026-02-06 01:02:03 CET] [WARN] [engine::live] [back_up] web 1 vda: slow\n";
        assert_eq!(line.for_file(), want);
        assert_eq!(line.for_journal(), "<4>web 1 vda: slow\n");
        assert_eq!(line.for_terminal(false), " WARN web 1 vda: slow\n");
        assert_eq!(line.for_terminal(true), "\x1b[33m WARN\x1b[0m web 1 vda: slow\n");
        let json: serde_json::Value = serde_json::from_str(&line.for_programs()).unwrap();
        let want = json!({
            "time": "2026-02-06T01:02:03.456+01:00", "level": "warn", "module": "engine::live",
            "function": "back_up", "vm": "web 1", "disk": "vda", "message": "slow",
        });
        assert_eq!(json, want);
    }

    #[test]
    fn a_message_can_break_no_line_and_move_no_cursor() {
        let at = at();
        let line = Line { vm: None, disk: None, ..line(&at, "one\r\ntwo\x1b[2J\n") };
        let text = line.for_file();
        let ends: Vec<&str> = text.lines().map(|line| line.rsplit("] ").next().unwrap()).collect();
        assert_eq!(ends, ["one", "two\u{fffd}[2J"]);
        assert_eq!(Line { message: "", ..line }.for_journal(), "<4>\n");
    }
}
