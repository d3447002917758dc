//! Whether a whole name matches a pattern.
//!
//! Matching works on sets of positions, and asks of each `!(…)` and position once, so no pattern takes more than
//! polynomial time.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::parse;
use super::tree::{Node, Repeat};

/// A Bash pattern: `*`, `?`, `[a-z]`, `[!abc]`, `@(a|b)`, `*(a)`, `+(a)`, `?(a)`, `!(a)`, and `\` before a character that
/// stands for itself. Case counts; `*` also matches dots and slashes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    text: String,
    nodes: Vec<Node>,
}

/// Places in a text, counted in characters.
type Places = BTreeSet<usize>;

impl Pattern {
    /// Reads a pattern. Every text is one: what is not complete stands for itself, as in Bash.
    pub fn new(text: &str) -> Self {
        let chars: Vec<char> = text.chars().collect();
        Self { text: text.to_owned(), nodes: parse::pattern(&chars) }
    }

    /// Whether the whole name matches.
    pub fn matches(&self, name: &str) -> bool {
        let name = Name { chars: name.chars().collect(), refused: RefCell::default() };
        name.ends(&self.nodes, Places::from([0])).contains(&name.chars.len())
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// A name that is being matched.
struct Name {
    chars: Vec<char>,
    /// Where the alternatives of a `!(…)` end that begin at a place, by their address: asked in a nest of such groups,
    /// the same question would come back more often with each level.
    refused: RefCell<BTreeMap<(*const Vec<Node>, usize), Places>>,
}

impl Name {
    /// Where a match of all nodes may end that begins at one of `from`.
    fn ends(&self, nodes: &[Node], from: Places) -> Places {
        nodes.iter().fold(from, |places, node| self.node_ends(node, &places))
    }

    fn node_ends(&self, node: &Node, from: &Places) -> Places {
        let step = |fits: &dyn Fn(char) -> bool| {
            from.iter().filter(|at| self.chars.get(**at).is_some_and(|c| fits(*c))).map(|at| at + 1).collect()
        };
        match node {
            Node::Char(want) => step(&|c| c == *want),
            Node::AnyChar => step(&|_| true),
            Node::OneOf(set) => step(&|c| set.contains(c)),
            Node::AnyText => {
                from.first().map_or(Places::new(), |first| (*first..=self.chars.len()).collect())
            }
            Node::Group(repeat, alternatives) => self.group_ends(*repeat, alternatives, from),
        }
    }

    fn group_ends(&self, repeat: Repeat, alternatives: &[Vec<Node>], from: &Places) -> Places {
        let once = |from: &Places| -> Places {
            alternatives.iter().flat_map(|nodes| self.ends(nodes, from.clone())).collect()
        };
        let any_times = |mut reached: Places| {
            let mut new = reached.clone();
            while !new.is_empty() {
                new = once(&new).difference(&reached).copied().collect();
                reached.extend(&new);
            }
            reached
        };
        match repeat {
            Repeat::Once => once(from),
            Repeat::AtMostOnce => once(from).union(from).copied().collect(),
            Repeat::AnyTimes => any_times(from.clone()),
            Repeat::AtLeastOnce => any_times(once(from)),
            Repeat::Not => {
                let other_than = |at: &usize| {
                    let key = (alternatives.as_ptr(), *at);
                    let known = self.refused.borrow().get(&key).cloned();
                    let excluded = known.unwrap_or_else(|| once(&Places::from([*at])));
                    self.refused.borrow_mut().entry(key).or_insert_with(|| excluded.clone());
                    (*at..=self.chars.len()).filter(move |end| !excluded.contains(end)).collect::<Places>()
                };
                from.iter().flat_map(other_than).collect()
            }
        }
    }
}
