//! The parts of Bash that a configuration file cannot use, and what to write instead.

/// A piece of Bash that has no meaning without running a shell, or that has no meaning at all.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Construct {
    /// `$(…)` or `` `…` ``.
    #[error("Command substitution {text} would run a program; write its result instead")]
    CommandSubstitution {
        /// How it begins.
        text: &'static str,
    },
    /// `$((…))`, `$[…]`, `((…))` or `declare -i`.
    #[error("Arithmetic {text} is not calculated here; write the number instead")]
    Arithmetic {
        /// How it begins.
        text: &'static str,
    },
    /// `${NAME…}` with an operator other than `:-` and `-`.
    #[error(
        "Expansion ${{{name}{operator}…}} is not known; only $NAME, ${{NAME}}, ${{NAME:-text}} and ${{NAME-text}} are"
    )]
    Expansion {
        /// The variable's name, empty for `${#…}` and `${!…}`.
        name: String,
        /// What follows the name.
        operator: String,
    },
    /// `$1`, `$@`, `$?` and so on.
    #[error("${name} is set by a running shell only; write its value instead")]
    ShellVariable {
        /// Name without the dollar sign.
        name: String,
    },
    /// `$'…'` or `$"…"`.
    #[error("Quotes of the form ${quote}…{quote} are not known; use plain quotes")]
    DollarQuote { quote: char },
    /// A word where an assignment should be.
    #[error("Command {word:?} is not run here; only assignments KEY=value are read")]
    Command {
        /// The first word, shortened.
        word: String,
    },
    /// `if`, `for`, `while` and their like.
    #[error("{word:?} is control flow, which is not run here; only assignments KEY=value are read")]
    ControlFlow { word: String },
    /// `source file` or `. file`.
    #[error("{word:?} would read another file; write its assignments here")]
    SourceFile {
        /// `source` or `.`.
        word: String,
    },
    /// `name() {` or `function name`.
    #[error("Function {name:?} is not run here; only assignments KEY=value are read")]
    Function { name: String },
    /// `|`, `&`, `<`, `>`, `(`, `)` outside quotes.
    #[error("Unexpected {operator:?}; put the value in quotes if it belongs to it")]
    Operator { operator: char },
    /// `{a,b}` in a list, outside quotes.
    #[error("Brace expansion is not done here; write each element by itself, in quotes")]
    BraceExpansion,
    /// `~user` or `~` after a colon.
    #[error("Only ~/ at the beginning of a value stands for the home directory; write the whole path")]
    Tilde,
    /// `~/` without `HOME` in the environment.
    #[error("~ needs HOME, which is not in the environment; write the whole path")]
    HomeUnknown,
    /// A quote, list, subscript or expansion that is still open at the end of the file.
    #[error("{opening} is not closed")]
    Unclosed {
        /// What was opened here.
        opening: &'static str,
    },
    /// A list index that is no plain number.
    #[error("List index {index:?} must be a number from 0 to 4294967295")]
    ListIndex {
        /// What stands between the brackets.
        index: String,
    },
    /// An element without `[name]=` in a table, or a table assigned like a plain value.
    #[error("{name} is a table: write {name}[\"name\"]=\"value\" or {name}=([\"name\"]=\"value\")")]
    TableNeedsNames { name: String },
    /// `declare -A` of something that is not a table, or the reverse.
    #[error("{name} cannot be both a list and a table")]
    OtherShape { name: String },
    /// An option of `declare` and its like that changes what assignments mean.
    #[error("Option {option} of {word} is not known; only -a, -A, -g, -r and -x are")]
    DeclareOption {
        /// `declare`, `export` and so on.
        word: String,
        /// The option as written.
        option: String,
    },
    /// A second assignment to a `readonly` variable.
    #[error("{name} was made read-only before; remove one of the two assignments")]
    ReadOnly { name: String },
    /// A list inside a list.
    #[error("A list cannot be an element of a list")]
    NestedList,
    /// `${A:-${B:-…}}` many levels deep.
    #[error("Expansions are nested too deeply")]
    TooDeep,
    /// A value that grew too long, mostly by using itself.
    #[error("The value is longer than 65536 bytes")]
    TooLong,
    /// All values together grew too long.
    #[error("The values of all files together are longer than 1048576 bytes")]
    TooMuch,
    /// The bytes of a value are not UTF-8.
    #[error("The value is not UTF-8 text; save the file as UTF-8")]
    NotUtf8,
    /// A NUL byte outside a comment.
    #[error("NUL byte; this is not a text file")]
    NulByte,
}
