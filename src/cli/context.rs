//! What a mode is started with, and where its log lines go.

use std::collections::BTreeMap;
use std::rc::Rc;

use tracing::Level;

use super::arguments::Arguments;
use super::call::Call;
use crate::clock::Clock;
use crate::engine::fail_point::FailPoints;
use crate::log::{Log, LogSetup, Place};
use vmconfig::Loaded;
use vmconfig::value::{LogFormat, LogLevel};
use vmstream::terminal::Screen;

/// What a mode is started with.
pub(super) struct Context {
    pub(super) arguments: Arguments,
    pub(super) loaded: Loaded,
    /// What time it is.
    pub(super) clock: Clock,
    /// Where a test wants a run to end or to wait.
    pub(super) fail_points: FailPoints,
    /// The process environment, read once.
    pub(super) environment: BTreeMap<String, String>,
    /// What is noted of it, and answers it.
    pub(super) call: Rc<Call>,
}

/// Sends log lines to standard error from now on, as the settings say: above what is drawn there.
pub(super) fn start_log(context: &Context, screen: Option<Screen>) -> Log {
    let settings = &context.loaded.settings;
    let level = match settings.log_level {
        LogLevel::Error => Level::ERROR,
        LogLevel::Warn => Level::WARN,
        LogLevel::Info => Level::INFO,
        LogLevel::Debug => Level::DEBUG,
    };
    let place = match (Place::of_stderr(|name| context.environment.get(name).cloned()), settings.log_format) {
        (terminal @ Place::Terminal { .. }, _) => terminal,
        (_, LogFormat::Json) => Place::Programs,
        (place, LogFormat::Text) => place,
    };
    let mut setup = LogSetup::direct(level, place);
    if let Some(screen) = screen {
        // A terminal that is gone is no reason to stop a backup.
        setup.printer = Box::new(move |text| screen.print(text));
    }
    Log::start(setup)
}
