//! The other side of looking and touching: what this program does when it was started as a process for that, and how it tells it.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::itself::ANSWER_ARGUMENT;
use super::look::{self, Look};
use super::request::{Question, Request};
use super::room::Room;
use super::touch;
use super::writers::Writers;

/// Answers questions until nobody asks any more, if the program's first argument says so. False when it says something else.
pub fn answer(argument: &str) -> bool {
    if argument != ANSWER_ARGUMENT {
        return false;
    }
    let (mut asked, mut told) = (io::stdin().lock(), io::stdout().lock());
    while let Some(Request { question, files }) = Request::read(&mut asked) {
        let line = line(question, &files);
        if line.and_then(|line| told.write_all(&line).and_then(|()| told.flush())).is_err() {
            break;
        }
    }
    true
}

fn line(question: Question, files: &[PathBuf]) -> io::Result<Vec<u8>> {
    match question {
        Question::Look => of_each(files, |file| or_why(Look::at(file))),
        Question::Directory => of_each(files, |file| or_why(look::directory_at(file))),
        Question::Writers => of_each(files, Writers::at),
        Question::Room => of_each(files, |file| or_why(Room::at(file))),
        Question::Try => of_each(files, |file| or_why(touch::tried(file))),
        Question::Remove => of_each(files, |file| or_why(touch::removed(file))),
    }
}

fn of_each<T: Serialize>(files: &[PathBuf], tell: impl Fn(&Path) -> T) -> io::Result<Vec<u8>> {
    let told: Vec<T> = files.iter().map(|file| tell(file)).collect();
    let mut line = serde_json::to_vec(&told)?;
    line.push(b'\n');
    Ok(line)
}

fn or_why<T>(told: io::Result<T>) -> Result<T, String> {
    told.map_err(|error| error.to_string())
}
