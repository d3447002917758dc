//! Bracket expressions: `[abc]`, `[!a-z]`, `[[:digit:]_]`.

/// The characters between brackets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct CharSet {
    negated: bool,
    items: Vec<Item>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Item {
    /// Both ends belong to it. Order is that of the characters' numbers: Bash's `globasciiranges`, which is on by default.
    Range(char, char),
    /// `[:alpha:]`, by its name.
    Class(String),
}

impl CharSet {
    /// Reads the expression whose `[` is at `at`, and returns where what follows begins. `None` when it has no end: then
    /// the bracket stands for itself.
    pub(super) fn read(text: &[char], at: usize) -> Option<(Self, usize)> {
        let mut next = at + 1;
        let negated = matches!(text.get(next), Some('!' | '^'));
        next += usize::from(negated);
        let mut items = Vec::new();
        let first = next;
        loop {
            let c = *text.get(next)?;
            if c == ']' && next > first {
                return Some((Self { negated, items }, next + 1));
            }
            if let Some((class, end)) = class(text, next) {
                items.push(Item::Class(class));
                next = end;
                continue;
            }
            let (low, end) = one(text, next)?;
            next = end;
            let is_range = text.get(next) == Some(&'-') && text.get(next + 1).is_some_and(|c| *c != ']');
            let high = if is_range {
                let (high, end) = one(text, next + 1)?;
                next = end;
                high
            } else {
                low
            };
            items.push(Item::Range(low, high));
        }
    }

    pub(super) fn contains(&self, c: char) -> bool {
        let in_item = |item: &Item| match item {
            Item::Range(low, high) => (*low..=*high).contains(&c),
            Item::Class(name) => is_in_class(c, name),
        };
        self.items.iter().any(in_item) != self.negated
    }
}

/// One character, which a `\` may make literal.
fn one(text: &[char], at: usize) -> Option<(char, usize)> {
    match text.get(at)? {
        '\\' => text.get(at + 1).map(|c| (*c, at + 2)),
        c => Some((*c, at + 1)),
    }
}

/// `[:name:]`, and where what follows begins.
fn class(text: &[char], at: usize) -> Option<(String, usize)> {
    if text.get(at..at + 2)? != ['[', ':'] {
        return None;
    }
    let name: String = text[at + 2..].iter().take_while(|c| c.is_ascii_alphabetic()).collect();
    let end = at + 2 + name.len();
    (text.get(end..end + 2)? == [':', ']']).then_some((name, end + 2))
}

fn is_in_class(c: char, name: &str) -> bool {
    match name {
        "alpha" => c.is_alphabetic(),
        "digit" => c.is_ascii_digit(),
        "alnum" => c.is_alphabetic() || c.is_ascii_digit(),
        "lower" => c.is_lowercase(),
        "upper" => c.is_uppercase(),
        "space" => c.is_whitespace(),
        "blank" => matches!(c, ' ' | '\t'),
        "punct" => c.is_ascii_punctuation(),
        "xdigit" => c.is_ascii_hexdigit(),
        "cntrl" => c.is_control(),
        "print" => !c.is_control(),
        "graph" => !c.is_control() && !c.is_whitespace(),
        "word" => c.is_alphanumeric() || c == '_',
        "ascii" => c.is_ascii(),
        _ => false,
    }
}
