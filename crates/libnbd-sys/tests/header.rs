//! Has the C compiler compare every declaration in `src/lib.rs` with the installed `libnbd.h`.
//!
//! The declarations are read from the source text, so none can be forgotten: an item this file cannot
//! translate into a C assertion fails the test.

use std::io::Write;
use std::mem::{offset_of, size_of};
use std::process::{Command, Stdio};

use libnbd_sys::{nbd_completion_callback, nbd_extent_callback};

const SOURCE: &str = include_str!("../src/lib.rs");

/// The source without comments, so that only declarations count.
fn code(source: &str) -> String {
    source.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
}

fn c_type(rust: &str) -> String {
    let rust = rust.trim();
    if let Some(to) = rust.strip_prefix("*const ") {
        return format!("const {} *", c_type(to));
    }
    if let Some(to) = rust.strip_prefix("*mut ") {
        return format!("{} *", c_type(to));
    }
    match rust {
        "c_char" => "char",
        "c_int" => "int",
        "c_uint" => "unsigned",
        "c_void" => "void",
        "bool" => "bool",
        "i64" => "int64_t",
        "u32" => "uint32_t",
        "u64" => "uint64_t",
        "usize" => "size_t",
        "nbd_handle" => "struct nbd_handle",
        "nbd_extent_callback" => "nbd_extent_callback",
        "nbd_completion_callback" => "nbd_completion_callback",
        other => panic!("no C type is known here for {other:?}"),
    }
    .to_owned()
}

/// `a: T, b: U) -> R` as the C return type and argument list.
fn c_signature(after_paren: &str) -> (String, String) {
    let (args, rest) = after_paren.split_once(')').expect("an argument list ends");
    let types: Vec<_> = args
        .split(',')
        .filter(|arg| !arg.trim().is_empty())
        .map(|arg| c_type(arg.split_once(':').expect("name: type").1))
        .collect();
    let returns = rest.trim_start().strip_prefix("->").map_or("void".to_owned(), |to| {
        c_type(to.split([';', ',', '>', '}']).next().expect("split gives one piece"))
    });
    (returns, if types.is_empty() { "void".to_owned() } else { types.join(", ") })
}

fn function_checks(code: &str) -> Vec<String> {
    code.split("pub fn ")
        .skip(1)
        .map(|text| {
            let (name, rest) = text.split_once('(').expect("a name and arguments");
            let (returns, args) = c_signature(rest);
            format!(
                "_Static_assert(__builtin_types_compatible_p(__typeof__({name}), {returns} ({args})), \"{name}\");"
            )
        })
        .collect()
}

fn constant_checks(code: &str) -> Vec<String> {
    code.split("pub const ")
        .skip(1)
        .map(|text| {
            let item = text.split(';').next().expect("split gives one piece");
            let (name, rest) = item.split_once(':').expect("name: type");
            let (rust_type, value) = rest.split_once('=').expect("type = value");
            let value = value.trim();
            if let Some(string) = value.strip_prefix('c') {
                format!("_Static_assert(__builtin_strcmp({name}, {string}) == 0, \"{name}\");")
            } else {
                format!("_Static_assert(({})({name}) == {value}, \"{name}\");", c_type(rust_type))
            }
        })
        .collect()
}

/// Each field that is a function, by its text; layout is compared in `layout_checks`.
fn callback_checks(code: &str) -> Vec<String> {
    let mut checks = Vec::new();
    for text in code.split("pub struct ").skip(1) {
        let body = text.split_once("\n}").expect("a struct ends on its own line").0;
        let (name, fields) = body.split_once('{').expect("a struct has fields");
        for field in fields.split("pub ").skip(1) {
            let (field_name, field_type) = field.split_once(':').expect("name: type");
            let wanted = match field_type.split_once("fn(") {
                Some((_, rest)) => {
                    let (returns, args) = c_signature(rest);
                    format!("{returns} (*) ({args})")
                }
                None => c_type(field_type.trim().trim_end_matches(',')),
            };
            let name = name.trim();
            checks.push(format!(
                "_Static_assert(__builtin_types_compatible_p(__typeof__((({name} *)0)->{field_name}), {wanted}), \"{name}.{field_name}\");"
            ));
        }
    }
    checks
}

fn layout_checks() -> Vec<String> {
    macro_rules! layout {
        ($name:ident) => {
            [
                (concat!("sizeof(", stringify!($name), ")"), size_of::<$name>()),
                (concat!("offsetof(", stringify!($name), ", callback)"), offset_of!($name, callback)),
                (concat!("offsetof(", stringify!($name), ", user_data)"), offset_of!($name, user_data)),
                (concat!("offsetof(", stringify!($name), ", free)"), offset_of!($name, free)),
            ]
        };
    }
    layout!(nbd_extent_callback)
        .into_iter()
        .chain(layout!(nbd_completion_callback))
        .map(|(c, rust)| format!("_Static_assert({c} == {rust}, \"{c}\");"))
        .collect()
}

/// What the compiler says to the assertions: `Err` with its text when one does not hold.
fn compile(checks: &[String]) -> Result<(), String> {
    let flags = Command::new("pkg-config").args(["--cflags", "libnbd"]).output().expect("run pkg-config");
    assert!(flags.status.success(), "pkg-config does not know libnbd");
    let mut cc = Command::new("cc")
        .args(["-std=gnu11", "-Wall", "-Werror", "-fsyntax-only", "-x", "c", "-"])
        .args(String::from_utf8_lossy(&flags.stdout).split_whitespace())
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("run cc");
    let text = format!("#include <stddef.h>\n#include <libnbd.h>\n{}\n", checks.join("\n"));
    cc.stdin.take().expect("a pipe").write_all(text.as_bytes()).expect("write to cc");
    let said = cc.wait_with_output().expect("wait for cc");
    if said.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&said.stderr).into_owned()) }
}

#[test]
fn every_declaration_agrees_with_the_installed_header() {
    let code = code(SOURCE);
    let public = code.matches("pub ").count();
    let functions = function_checks(&code);
    let constants = constant_checks(&code);
    let fields = callback_checks(&code);
    let structs = code.matches("pub struct ").count();
    assert_eq!(structs, 3, "give a new struct its row in layout_checks");
    assert_eq!(public, functions.len() + constants.len() + fields.len() + structs, "an item is not compared");
    assert!(functions.len() > 20 && constants.len() > 5 && fields.len() == 6, "the reader lost items");
    for checks in [functions, constants, fields, layout_checks()] {
        compile(&checks).unwrap_or_else(|said| panic!("the header disagrees:\n{said}"));
    }
}

#[test]
fn a_wrong_declaration_is_noticed() {
    let cases = [
        ("timeout: c_int", "timeout: i64"),
        ("pub fn nbd_get_size(h: *mut nbd_handle) -> i64", "pub fn nbd_get_size(h: *mut nbd_handle) -> u64"),
        ("request: bool", "request: c_int"),
        ("count: usize,\n        offset: u64,", "offset: u64,\n        count: u32,"),
        ("error: *mut c_int) -> c_int", "error: *mut c_uint) -> c_int"),
        ("nr_entries: usize", "nr_entries: u32"),
        ("LIBNBD_STATE_HOLE: u32 = 1", "LIBNBD_STATE_HOLE: u32 = 4"),
        ("c\"base:allocation\"", "c\"base:allocations\""),
        ("pub fn nbd_poll(", "pub fn nbd_pall("),
    ];
    for (right, wrong) in cases {
        let code = code(SOURCE);
        assert!(code.contains(right), "{right}: not in the source any more");
        let code = code.replace(right, wrong);
        let checks = [function_checks(&code), constant_checks(&code), callback_checks(&code)].concat();
        assert!(compile(&checks).is_err(), "{wrong}: the compiler took it");
    }
}
