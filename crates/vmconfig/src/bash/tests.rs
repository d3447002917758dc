//! Each accepted form with what it means, each refused construct with its whole text.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use super::{Shape, Variables, read};

/// Reads `text` with a small environment and shows all variables, one a line, or the error.
fn shown(text: &[u8]) -> (String, Vec<String>) {
    let environment = [("HOME", "/home/me"), ("REGION", "north"), ("EMPTY", "")];
    let environment: BTreeMap<String, String> =
        environment.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
    let mut variables = Variables::new(&environment, &["VM_POLICY"]);
    if let Err(error) = read(Path::new("f.conf"), text, &mut variables) {
        return (error.to_string(), variables.warnings);
    }
    let mut shown = String::new();
    for (name, variable) in &variables.all {
        match &variable.shape {
            Shape::Empty => writeln!(shown, "{name}").expect("writing to a string"),
            Shape::One(value) => writeln!(shown, "{name}={:?}", value.text).expect("writing to a string"),
            Shape::List(list) => {
                let items: Vec<String> =
                    list.iter().map(|(key, value)| format!("{key}={:?}", value.text)).collect();
                writeln!(shown, "{name}=({})", items.join(" ")).expect("writing to a string");
            }
            Shape::Table(table) => {
                let items: Vec<String> =
                    table.iter().map(|(key, value)| format!("{key}={:?}", value.text)).collect();
                writeln!(shown, "{name}={{{}}}", items.join(" ")).expect("writing to a string");
            }
        }
    }
    (shown.trim_end().to_owned(), variables.warnings)
}

#[test]
fn accepted_forms_mean_what_bash_makes_of_them() {
    let cases: &[(&str, &str, &str)] = &[
        ("nothing", "", ""),
        ("comments and blank lines", "#!/bin/bash\n\n  # note\n", ""),
        ("bare", "A=value", "A=\"value\""),
        ("number", "A=123\n", "A=\"123\""),
        ("empty", "A=\nB=''\n", "A=\"\"\nB=\"\""),
        ("double quotes and comment", "A=\"v\"      # why", "A=\"v\""),
        ("number sign inside", "A=a#b B=\"#\"", "A=\"a#b\"\nB=\"#\""),
        ("leading blanks", " \t A=1", "A=\"1\""),
        ("single quotes", r#"A='$x "y" \n'"#, r#"A="$x \"y\" \\n""#),
        (
            "escapes",
            r#"A=a\ b\$c B="a\"b\\c\nd""#,
            r#"A="a b$c"
B="a\"b\\c\\nd""#,
        ),
        ("adjacent", r#"A="a"b'c'\d"#, "A=\"abcd\""),
        ("continuation", "A=one\\\ntwo B=\"x\\\ny\" \\\n C=3", "A=\"onetwo\"\nB=\"xy\"\nC=\"3\""),
        ("continuation in a name", "AB=1 C=$A\\\nB D=${\\\nA\\\nB}", "AB=\"1\"\nC=\"1\"\nD=\"1\""),
        ("lines in quotes", "A='x\ny'", "A=\"x\\ny\""),
        ("several on a line", "A=1; B=2 C=3;", "A=\"1\"\nB=\"2\"\nC=\"3\""),
        ("earlier keys", "A=/mnt\nB=$A/x C=${A}y D='$A'", "A=\"/mnt\"\nB=\"/mnt/x\"\nC=\"/mnty\"\nD=\"$A\""),
        ("environment", "A=$REGION/${REGION}", "A=\"north/north\""),
        ("key wins over environment", "REGION=south; A=$REGION", "A=\"south\"\nREGION=\"south\""),
        (
            "fallback",
            "A=${NO:-x y} B=${EMPTY:-x} C=${EMPTY-x} D=${NO-x}",
            "A=\"x y\"\nB=\"x\"\nC=\"\"\nD=\"x\"",
        ),
        ("fallback in fallback", "A=${NO:-${NEITHER:-\"a}b\"}}", "A=\"a}b\""),
        ("fallback in quotes", "A=\"${NO:-it's \"in\"}\"", "A=\"it's in\""),
        ("no braces in a plain assignment", "A={a,b}", "A=\"{a,b}\""),
        ("home", "A=~/b B=~ C='~/b' D=a~", "A=\"/home/me/b\"\nB=\"/home/me\"\nC=\"~/b\"\nD=\"a~\""),
        ("lone dollar", "A=$ B=\"a$\" C=5$/d", "A=\"$\"\nB=\"a$\"\nC=\"5$/d\""),
        ("append", "A=1 A+=2\nREGION+=x", "A=\"12\"\nREGION=\"northx\""),
        ("list", "L=(a \"b c\" 'd')", "L=(0=\"a\" 1=\"b c\" 2=\"d\")"),
        ("list over lines", "L=( # first\n a\n\n b # second\n)\n", "L=(0=\"a\" 1=\"b\")"),
        ("list grows", "L=()\nL+=(\"x\")\nL+=(y z)", "L=(0=\"x\" 1=\"y\" 2=\"z\")"),
        ("list begins anew", "L=(a b)\nL=(c)", "L=(0=\"c\")"),
        ("list by index", "L[3]=c L=([1]=a b)\nL[0]=z", "L=(0=\"z\" 1=\"a\" 2=\"b\")"),
        (
            "patterns stay",
            "L=(test-* [abc]? \"!(x)\" [!a]*)",
            "L=(0=\"test-*\" 1=\"[abc]?\" 2=\"!(x)\" 3=\"[!a]*\")",
        ),
        (
            "list splits what is not quoted",
            "A='x y'\nL=($A \"$A\" p$A)",
            "A=\"x y\"\nL=(0=\"x\" 1=\"y\" 2=\"x y\" 3=\"px\" 4=\"y\")",
        ),
        ("list drops empty expansions", "L=($EMPTY \"$EMPTY\" a)", "L=(0=\"\" 1=\"a\")"),
        (
            "table",
            "VM_POLICY[\"web 1\"]=\"daily\"\nVM_POLICY[db]=never",
            "VM_POLICY={db=\"never\" web 1=\"daily\"}",
        ),
        (
            "table at once",
            "VM_POLICY=([\"a\"]=\"daily\" ['b']=never)\nVM_POLICY+=([c]=weekly)",
            "VM_POLICY={a=\"daily\" b=\"never\" c=\"weekly\"}",
        ),
        ("table key from variable", "A=web VM_POLICY[$A-1]=daily", "A=\"web\"\nVM_POLICY={web-1=\"daily\"}"),
        ("declared table", "declare -gA VM_POLICY\nVM_POLICY[a]=daily", "VM_POLICY={a=\"daily\"}"),
        (
            "declared table keeps what it has",
            "VM_POLICY[a]=daily\ndeclare -A VM_POLICY",
            "VM_POLICY={a=\"daily\"}",
        ),
        ("declared with value", "typeset -gA T=([x]=1)\ndeclare -g -a L=(1) # c", "L=(0=\"1\")\nT={x=\"1\"}"),
        ("export", "export A=1 B=\"x y\"; export C", "A=\"1\"\nB=\"x y\"\nC"),
        ("readonly", "readonly A=1\ndeclare -r B=2", "A=\"1\"\nB=\"2\""),
        ("declare expands before it assigns", "A=1\ndeclare A=2 B=$A", "A=\"2\"\nB=\"1\""),
        ("declare without options", "declare A=1\ndeclare -- B=2", "A=\"1\"\nB=\"2\""),
        ("names like keywords", "if=1 source=2 export=3", "export=\"3\"\nif=\"1\"\nsource=\"2\""),
        ("line ends of Windows", "A=1\r\nB=\"2\"\r\nC=a\\\r\nb\r\n", "A=\"1\"\nB=\"2\"\nC=\"ab\""),
        ("byte order mark", "\u{FEFF}A=1", "A=\"1\""),
        ("letters beyond ASCII", "A=Müller # für", "A=\"Müller\""),
    ];
    for (name, given, want) in cases {
        assert_eq!(shown(given.as_bytes()), (want.to_string(), vec![]), "{name}");
    }
    assert_eq!(shown(b"# f\xFCr\nA=1"), ("A=\"1\"".to_owned(), vec![]), "a comment may be in any encoding");
}

#[test]
fn what_deserves_a_look_is_said() {
    let cases = [
        ("A=x$NO", "A=\"x\"", "f.conf:1:4: $NO is not set and stands for nothing"),
        ("A = 1", "A=\"1\"", "f.conf:1:1: Bash knows no blanks around =; read as A=value"),
        (" A =\"x\"", "A=\"x\"", "f.conf:1:2: Bash knows no blanks around =; read as A=value"),
        ("A= /x # c", "A=\"/x\"", "f.conf:1:1: Bash knows no blanks around =; read as A=value"),
    ];
    let list =
        "f.conf:1:7: L is a list, of which this changes the first element; to add one, write L+=(\"…\")";
    let cases = cases.into_iter().chain([("L=(a);L+=b", "L=(0=\"ab\")", list)]);
    for (given, want, warning) in cases {
        assert_eq!(shown(given.as_bytes()), (want.to_owned(), vec![warning.to_owned()]), "{given}");
    }
}

#[test]
fn what_needs_a_shell_is_refused_by_name() {
    let only = "only assignments KEY=value are read";
    let operator = |at: &str, c: char| {
        format!("f.conf:{at}: Unexpected {c:?}; put the value in quotes if it belongs to it")
    };
    let command = |at: &str, word: &str| format!("f.conf:{at}: Command {word:?} is not run here; {only}");
    let flow = |at: &str, word: &str| {
        format!("f.conf:{at}: {word:?} is control flow, which is not run here; {only}")
    };
    let substitution = |at: &str, text: &str| {
        format!("f.conf:{at}: Command substitution {text} would run a program; write its result instead")
    };
    let arithmetic = |at: &str, text: &str| {
        format!("f.conf:{at}: Arithmetic {text} is not calculated here; write the number instead")
    };
    let function = |at: &str, name: &str| format!("f.conf:{at}: Function {name:?} is not run here; {only}");
    let expansion = |at: &str, form: &str| {
        format!(
            "f.conf:{at}: Expansion {form} is not known; only $NAME, ${{NAME}}, ${{NAME:-text}} and ${{NAME-text}} are"
        )
    };
    let unclosed = |at: &str, opening: &str| format!("f.conf:{at}: {opening} is not closed");
    let table = |at: &str| {
        format!(
            "f.conf:{at}: VM_POLICY is a table: write VM_POLICY[\"name\"]=\"value\" or VM_POLICY=([\"name\"]=\"value\")"
        )
    };
    let index = |at: &str, text: &str| {
        format!("f.conf:{at}: List index {text:?} must be a number from 0 to 4294967295")
    };
    let option = |at: &str, option: &str, word: &str| {
        format!("f.conf:{at}: Option {option} of {word} is not known; only -a, -A, -g, -r and -x are")
    };
    let tilde = |at: &str| {
        format!(
            "f.conf:{at}: Only ~/ at the beginning of a value stands for the home directory; write the whole path"
        )
    };
    let shell = |at: &str, name: &str| {
        format!("f.conf:{at}: ${name} is set by a running shell only; write its value instead")
    };
    let read_only = "f.conf:1:14: A was made read-only before; remove one of the two assignments".to_owned();
    let dollar_quote =
        |c: char| format!("f.conf:1:3: Quotes of the form ${c}…{c} are not known; use plain quotes");
    let cases: Vec<(&[u8], String)> = vec![
        (b"A=1\n  B=$(date)", substitution("2:5", "$(…)")),
        (b"A=\"x $(date)\"", substitution("1:6", "$(…)")),
        (b"A=`date`", substitution("1:3", "`…`")),
        (b"A=\"`date`\"", substitution("1:4", "`…`")),
        (b"$(date)", substitution("1:1", "$(…)")),
        (b"A=$((1+1))", arithmetic("1:3", "$((…))")),
        (b"A=$[1+1]", arithmetic("1:3", "$[…]")),
        (b"((A=1))", arithmetic("1:1", "((…))")),
        (b"declare -i A=1", arithmetic("1:9", "declare -i")),
        (b"if [ x ]; then A=1; fi", flow("1:1", "if")),
        (b"for x in a; do A=1; done", flow("1:1", "for")),
        (b"while true; do A=1; done", flow("1:1", "while")),
        (b"case x in esac", flow("1:1", "case")),
        (b"[[ -n x ]] && A=1", flow("1:1", "[[")),
        (b"{ A=1; }", flow("1:1", "{")),
        (
            b"A=1\nsource other.conf",
            "f.conf:2:1: \"source\" would read another file; write its assignments here".into(),
        ),
        (b". other.conf", "f.conf:1:1: \".\" would read another file; write its assignments here".into()),
        (b"name() { A=1; }", function("1:1", "name")),
        (b"name ()\n{ A=1; }", function("1:1", "name")),
        (b"function name { A=1; }", function("1:1", "name")),
        (b"echo hello", command("1:1", "echo")),
        (b"unset A", command("1:1", "unset")),
        (b"A=1 echo hello", command("1:5", "echo")),
        (b"A= rm -rf x", command("1:4", "rm")),
        (b"A==1 == 2", command("1:6", "==")),
        (b"A == 2", command("1:1", "A")),
        ("Ä=1".as_bytes(), command("1:1", "Ä=1")),
        (b"1A=1", command("1:1", "1A=1")),
        (b"A=1 & B=2", operator("1:5", '&')),
        (b"A=a|b", operator("1:4", '|')),
        (b"A=a>b", operator("1:4", '>')),
        (b"A=<b", operator("1:3", '<')),
        (b"A=a(b)", operator("1:4", '(')),
        (b"A=a)", operator("1:4", ')')),
        (b"A=1;;", operator("1:5", ';')),
        (b"L=(@(a|b))", operator("1:5", '(')),
        (b"L=(a; b)", operator("1:5", ';')),
        (b"L=(a)b", operator("1:6", 'b')),
        (
            b"L=(a{b,c})",
            "f.conf:1:4: Brace expansion is not done here; write each element by itself, in quotes".into(),
        ),
        (
            b"L=(a{$A,c})",
            "f.conf:1:4: Brace expansion is not done here; write each element by itself, in quotes".into(),
        ),
        (
            b"declare A={1..3}",
            "f.conf:1:11: Brace expansion is not done here; write each element by itself, in quotes".into(),
        ),
        (b"export A[0]=1", operator("1:9", '[')),
        (b"VM_POLICY=($EMPTY)", table("1:1")),
        (b"VM_POLICY=([a]=~/)", tilde("1:16")),
        (b"L=((a))", operator("1:4", '(')),
        (b"L=([0]=(a))", "f.conf:1:8: A list cannot be an element of a list".into()),
        (b"L[0]=(a)", "f.conf:1:6: A list cannot be an element of a list".into()),
        (b"L[x]=a", index("1:1", "x")),
        (b"L[08]=a", index("1:1", "08")),
        (b"L[-1]=a", index("1:1", "-1")),
        (b"L=([4294967295]=a b)", index("1:19", "4294967296")),
        (b"A=${#B}", expansion("1:3", "${#…}")),
        (b"A=${!B}", expansion("1:3", "${!…}")),
        (b"A=${B:=x}", expansion("1:3", "${B:…}")),
        (b"A=${B%x}", expansion("1:3", "${B%…}")),
        (b"A=${B[0]}", expansion("1:3", "${B[…}")),
        (b"A=${B+x}", expansion("1:3", "${B+…}")),
        (b"A=$1", shell("1:3", "1")),
        (b"A=$$", shell("1:3", "$")),
        (b"A=$HOSTNAME", shell("1:3", "HOSTNAME")),
        (b"A=${BASH_SOURCE}", shell("1:3", "BASH_SOURCE")),
        (b"A=$'x'", dollar_quote('\'')),
        (b"A=$\"x\"", dollar_quote('"')),
        (b"A=~root/x", tilde("1:3")),
        (b"A=/x:~/y", tilde("1:6")),
        (b"A='x\n\n", unclosed("1:3", "Quote '")),
        (b"A=1\nB=x\"y", unclosed("2:4", "Quote \"")),
        (b"A=${B", unclosed("1:3", "Expansion ${")),
        (b"A=${B:-x", unclosed("1:3", "Expansion ${")),
        (b"L=(a\nb", unclosed("1:3", "List (")),
        (b"L[a\n]=1", unclosed("1:2", "Bracket [")),
        (b"L=([a b)", unclosed("1:4", "Bracket [")),
        (b"L=([a b])", unclosed("1:4", "Bracket [")),
        (b"VM_POLICY=daily", table("1:1")),
        (b"VM_POLICY=(daily)", table("1:1")),
        (b"declare -a VM_POLICY", "f.conf:1:12: VM_POLICY cannot be both a list and a table".into()),
        (b"L=(a)\ndeclare -A L", "f.conf:2:12: L cannot be both a list and a table".into()),
        (b"declare -n A=B", option("1:9", "-n", "declare")),
        (b"declare +x A", option("1:9", "+x", "declare")),
        (b"export -f name", option("1:8", "-f", "export")),
        (b"readonly A=1;A=2", read_only),
        (b"A=x\xFFy", "f.conf:1:3: The value is not UTF-8 text; save the file as UTF-8".into()),
        (b"A=x\0y", "f.conf:1:4: NUL byte; this is not a text file".into()),
        (b"A=\"x\\\0y\"", "f.conf:1:6: NUL byte; this is not a text file".into()),
        ("Ü='ä' A=$(x)".as_bytes(), command("1:1", "Ü='ä'")),
        ("A='ä' B=$(x)".as_bytes(), substitution("1:9", "$(…)")),
    ];
    for (given, want) in cases {
        assert_eq!(shown(given), (want, vec![]), "{}", String::from_utf8_lossy(given));
    }
    let doubled = format!("A=xxxxxxxx\n{}", "A=$A$A\n".repeat(40));
    assert_eq!(shown(doubled.as_bytes()).0, "f.conf:15:3: The value is longer than 65536 bytes");
    let many = format!("A={}\nL=({})", "x".repeat(60_000), "$A ".repeat(300_000));
    let want = "f.conf:2:52: The values of all files together are longer than 1048576 bytes";
    assert_eq!(shown(many.as_bytes()).0, want);
    let nested = format!("A={}", "${B:-".repeat(100_000));
    assert_eq!(shown(nested.as_bytes()).0, "f.conf:1:83: Expansions are nested too deeply");
}

#[test]
fn home_without_home_is_refused() {
    let environment = BTreeMap::new();
    let mut variables = Variables::new(&environment, &[]);
    let error = read(Path::new("f.conf"), b"A=~/x", &mut variables).expect_err("HOME is missing");
    assert_eq!(
        error.to_string(),
        "f.conf:1:3: ~ needs HOME, which is not in the environment; write the whole path"
    );
}
