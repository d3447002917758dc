//! A pattern as a tree.

use super::set::CharSet;

/// One part of a pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Node {
    Char(char),
    AnyChar,
    AnyText,
    OneOf(CharSet),
    Group(Repeat, Vec<Vec<Node>>),
}

/// How often a group may occur.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Repeat {
    Once,
    AtMostOnce,
    AnyTimes,
    AtLeastOnce,
    /// `!(…)`: any text but these.
    Not,
}
