//! Parses the text of a Bash pattern into a tree.

use super::set::CharSet;
use super::tree::{Node, Repeat};

/// How deep groups may nest: the stack has an end. What is deeper stands for itself.
const MAX_DEPTH: u32 = 32;

/// Reads a whole pattern.
pub(super) fn pattern(text: &[char]) -> Vec<Node> {
    sequence(text, 0)
}

fn sequence(text: &[char], depth: u32) -> Vec<Node> {
    let mut nodes = Vec::new();
    let mut at = 0;
    while at < text.len() {
        at = node(text, at, depth, &mut nodes);
    }
    nodes
}

/// Reads one node and returns where the next one begins.
fn node(text: &[char], at: usize, depth: u32, nodes: &mut Vec<Node>) -> usize {
    if let Some((group, end)) = group(text, at, depth) {
        nodes.push(group);
        return end;
    }
    match text[at] {
        '*' => nodes.push(Node::AnyText),
        '?' => nodes.push(Node::AnyChar),
        '\\' if at + 1 < text.len() => {
            nodes.push(Node::Char(text[at + 1]));
            return at + 2;
        }
        '[' => {
            if let Some((set, end)) = CharSet::read(text, at) {
                nodes.push(Node::OneOf(set));
                return end;
            }
            nodes.push(Node::Char('['));
        }
        other => nodes.push(Node::Char(other)),
    }
    at + 1
}

/// Reads `?(a|b)` and the like, and returns where what follows begins. `None` when there is no group here, or no end of it.
fn group(text: &[char], at: usize, depth: u32) -> Option<(Node, usize)> {
    let repeat = match text[at] {
        '@' => Repeat::Once,
        '?' => Repeat::AtMostOnce,
        '*' => Repeat::AnyTimes,
        '+' => Repeat::AtLeastOnce,
        '!' => Repeat::Not,
        _ => return None,
    };
    if text.get(at + 1) != Some(&'(') || depth >= MAX_DEPTH {
        return None;
    }
    let mut alternatives = Vec::new();
    let mut begin = at + 2;
    let mut open = 0;
    let mut next = begin;
    while let Some(c) = text.get(next) {
        match c {
            '\\' => next += 1,
            '[' => next = CharSet::read(text, next).map_or(next, |(_, end)| end - 1),
            '(' => open += 1,
            ')' if open > 0 => open -= 1,
            '|' | ')' if open == 0 => {
                alternatives.push(sequence(&text[begin..next], depth + 1));
                begin = next + 1;
                if *c == ')' {
                    return Some((Node::Group(repeat, alternatives), begin));
                }
            }
            _ => {}
        }
        next += 1;
    }
    None
}
