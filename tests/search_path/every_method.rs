//! The tour leaves no method out.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use serial_test::parallel;

/// What has an error in its signature and sends nothing.
const SEND_NOTHING: [&str; 9] = [
    "afterwards",
    "allow_any_error",
    "allow_errors",
    "condition",
    "database",
    "endings",
    "is_retryable",
    "on_failure",
    "write_html",
];

const TOUR: &str = concat!(
    include_str!("tour/advisory.rs"),
    include_str!("tour/guards.rs"),
    include_str!("tour/harness.rs"),
    include_str!("tour/observe.rs"),
    include_str!("tour/migrations.rs"),
    include_str!("tour/tables.rs"),
    include_str!("statements.rs"),
);

#[test]
#[parallel]
fn the_tour_comes_by_every_method_that_can_send_something() {
    let mut source = String::new();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    read(&root.join("src"), &mut source);
    read(&root.join("harness/src"), &mut source);
    let methods = methods(&source);
    assert!(methods.len() > 60, "{methods:?}");
    let is_missing = |name: &&str| {
        // An assertion that panics is made of one that does not.
        let name = match name.strip_prefix("try_assert") {
            Some(rest) => format!("assert{rest}"),
            None => (*name).to_owned(),
        };
        let mut words = TOUR.split(|c: char| !c.is_alphanumeric() && c != '_');
        !words.any(|word| word == name)
    };
    let missing: Vec<_> = methods.into_iter().filter(is_missing).collect();
    assert_eq!(missing, SEND_NOTHING);
}

/// Appends all Rust code of a directory.
fn read(directory: &Path, source: &mut String) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            read(&path, source);
        } else if path.extension().is_some_and(|it| it == "rs") {
            source.push_str(&fs::read_to_string(path).unwrap());
        }
    }
}

/// Those of public traits that extend a connection, and those public ones that may fail.
fn methods(source: &str) -> BTreeSet<&str> {
    let mut methods = BTreeSet::new();
    for block in source.split("\n}\n") {
        let name = block.split("\npub trait ").nth(1).unwrap_or_default();
        let is_trait = name
            .split([':', ' '])
            .next()
            .is_some_and(|name| name.ends_with("Ext"));
        let functions = match is_trait {
            true => block.split("\n    fn "),
            false => block.split("pub fn "),
        };
        for endings in block.split("    endings! {").skip(1) {
            // The names stand behind the result.
            let endings = endings.split("\n    }").next().unwrap_or_default();
            let names = endings.rsplit(" => ").next().unwrap_or_default().split(',');
            methods.extend(names.skip(1).map(str::trim));
        }
        for function in functions.skip(1) {
            let signature = function.split(['{', ';']).next().unwrap_or_default();
            if is_trait || signature.contains("Error") || signature.contains("Result<") {
                methods.extend(signature.split(['(', '<']).next());
            }
        }
    }
    methods
}
