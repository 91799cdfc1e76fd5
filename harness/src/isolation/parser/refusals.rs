//! What is refused, and where.

use super::Parser;

fn assert_refused(text: &str, place: (usize, usize), message: &str) {
    let error = Parser::new(text).file().expect_err(text);
    let refusal = ((error.line(), error.column()), error.message());
    assert_eq!(refusal, (place, message), "{text:?}");
}

/// In a file with three steps.
fn assert_permutation_refused(text: &str, column: usize, message: &str) {
    let text = format!("session s1 step a {{}} step b {{}}\nsession s2 step c {{}}\n{text}");
    assert_refused(&text, (3, column), message);
}

#[test]
fn an_error_is_told_with_its_place() {
    let error = Parser::new("session s1\nstep s1a step s1b { }")
        .file()
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        r#"line 2, column 10: expected the SQL of step "s1a" in braces, found "step""#
    );
}

#[test]
fn a_place_counts_characters_and_neither_byte_order_mark_nor_carriage_return() {
    let message = "unexpected character ';'";
    assert_refused("\u{feff};", (1, 1), message);
    assert_refused("# äöü\r\nsession \"日本\"\t;", (2, 14), message);
}

#[test]
fn what_has_no_end_is_refused_where_it_begins() {
    let sql = "SQL without a closing brace";
    assert_refused("setup\n  { SELECT\n1\n", (2, 3), sql);
    let name = "name without a closing quote on its line";
    assert_refused("session \"s1", (1, 9), name);
    assert_refused("session \"s\"\"1\r\n\"", (1, 9), name);
}

#[test]
fn a_nul_character_is_refused_where_it_would_get_lost() {
    assert_refused("setup {\nä\0 }", (2, 2), "SQL with a NUL character");
    assert_refused("session \"a\0\"", (1, 11), "name with a NUL character");
    assert_refused("session a\0", (1, 10), "unexpected character '\\0'");
}

#[test]
fn what_follows_a_brace_inside_of_sql_is_refused_with_a_hint() {
    let quote = r"unexpected character '\'' (SQL ends at its first '}')";
    assert_refused("setup { SELECT '{1}'; }", (1, 20), quote);
    let brace = "unexpected character '}' (SQL ends at its first '}')";
    assert_refused("setup { SELECT $${{1}}$$; }", (1, 22), brace);
    let name = r#"expected "setup", "teardown" or "session", found the name "END" (SQL ends at its first '}')"#;
    assert_refused("setup { DO $$ BEGIN -- {}\nEND $$; }", (2, 1), name);
}

#[test]
fn the_parts_come_in_one_order() {
    for (text, column, message) in [
        (
            "",
            1,
            r#""setup", "teardown" or "session", found the end of the file"#,
        ),
        (
            "setup {} permutation a",
            10,
            r#""setup", "teardown" or "session", found "permutation""#,
        ),
        (
            "teardown {} setup {}",
            13,
            r#""session" after the teardown, found "setup""#,
        ),
        (
            "teardown {} teardown {}",
            13,
            r#""session" after the teardown, found "teardown""#,
        ),
        (
            "setup setup",
            7,
            r#"the SQL of the setup in braces, found "setup""#,
        ),
        (
            "session s1 session s2",
            12,
            r#"a step of session "s1", found "session""#,
        ),
        (
            "session s1 setup {} setup {}",
            21,
            r#"a step of session "s1", found "setup""#,
        ),
        (
            "session s1 teardown {}",
            12,
            r#"a step of session "s1", found "teardown""#,
        ),
        (
            "session s1 step a {} {}",
            22,
            r#"a step or the teardown of session "s1", "session" or "permutation", found SQL in braces"#,
        ),
        (
            "session s1 step a {} setup {}",
            22,
            r#"a step or the teardown of session "s1", "session" or "permutation", found "setup""#,
        ),
        (
            "session s1 step a {} teardown {} step b {}",
            34,
            r#""session" or "permutation" after the teardown of session "s1", found "step""#,
        ),
    ] {
        assert_refused(text, (1, column), &format!("expected {message}"));
    }
}

#[test]
fn a_name_has_to_be_there_and_a_keyword_needs_quotes_to_be_one() {
    let only_in_quotes = "which is a name only in quotes";
    let session = format!(r#"the name of a session, found the keyword "step", {only_in_quotes}"#);
    let step = format!(r#"the name of a step, found the keyword "setup", {only_in_quotes}"#);
    for (text, column, message) in [
        (
            "session",
            8,
            "the name of a session, found the end of the file",
        ),
        ("session 1st", 9, "the name of a session, found 1"),
        ("session step a {}", 9, &session),
        (
            "session s1 step {}",
            17,
            "the name of a step, found SQL in braces",
        ),
        ("session s1 step setup {}", 17, &step),
    ] {
        assert_refused(text, (1, column), &format!("expected {message}"));
    }
}

#[test]
fn no_two_sessions_and_no_two_steps_have_the_same_name() {
    let text = "session s step a {}\nsession \"s\" step b {}";
    assert_refused(text, (2, 9), r#"session "s" is defined twice"#);
    let text = "session s step a {}\nsession t step \"a\" {}";
    assert_refused(text, (2, 16), r#"step "a" is defined twice"#);
}

#[test]
fn a_permutation_is_a_list_of_steps_with_markers() {
    for (text, column, message) in [
        (
            "permutation",
            12,
            "the name of a step, found the end of the file",
        ),
        ("permutation a, b", 14, "the name of a step, found ','"),
        (
            "permutation a 99999999999999999999",
            15,
            "the name of a step, found 99999999999999999999",
        ),
        (
            "permutation a session",
            15,
            r#"the name of a step, found the keyword "session", which is a name only in quotes"#,
        ),
        (
            "permutation a()",
            15,
            "the name of a step or '*', found ')'",
        ),
        (
            "permutation a(c,)",
            17,
            "the name of a step or '*', found ')'",
        ),
        (
            "permutation a(* c)",
            17,
            r#"',' or ')' after a marker, found the name "c""#,
        ),
        (
            "permutation a(c",
            16,
            "',' or ')' after a marker, found the end of the file",
        ),
    ] {
        assert_permutation_refused(text, column, &format!("expected {message}"));
    }
}

#[test]
fn a_marker_names_a_step_of_another_session_in_the_same_permutation() {
    for (text, column, message) in [
        (
            "permutation a C",
            15,
            r#"undefined step "C" in the permutation"#,
        ),
        (
            "permutation a(d) c",
            15,
            r#"undefined step "d" in a marker"#,
        ),
        (
            "permutation a(b) b",
            15,
            r#"step "a" cannot wait for step "b" of its own session"#,
        ),
        (
            "permutation a(*, c) permutation c",
            18,
            r#"step "c" of this marker is not in the permutation"#,
        ),
    ] {
        assert_permutation_refused(text, column, message);
    }
}

#[test]
fn a_marker_for_notices_is_refused() {
    assert_permutation_refused(
        "permutation a(c notices 99999999999999999999) c",
        17,
        r#"the marker "notices" is not supported: Diesel does not show notices"#,
    );
}
