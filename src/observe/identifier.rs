use crate::sql;

/// A name of a relation, with its schema perhaps, in a form that `to_regclass` can read whatever
/// its letters are; `None` where it is no such name, which would be an error there.
pub(super) fn quoted(name: &str) -> Option<String> {
    let mut rest = name.chars().peekable();
    let mut parts = Vec::new();
    loop {
        let mut part = String::new();
        if rest.next_if_eq(&'"').is_some() {
            loop {
                match rest.next()? {
                    '"' if rest.next_if_eq(&'"').is_none() => break,
                    letter => part.push(letter),
                }
            }
        } else {
            let is_letter = |&letter: &char| {
                letter.is_alphanumeric() || matches!(letter, '_' | '$') || !letter.is_ascii()
            };
            while let Some(letter) = rest.next_if(is_letter) {
                part.push(letter.to_ascii_lowercase());
            }
        }
        if part.is_empty() || part.contains('\0') {
            return None;
        }
        parts.push(sql::quoted(&part));
        match rest.next() {
            None if parts.len() <= 2 => return Some(parts.join(".")),
            Some('.') => {}
            _ => return None,
        }
    }
}

/// What a name without quotes may be in that form: a table's, or a schema's and a table's.
pub(super) fn readings(name: &str) -> impl Iterator<Item = String> {
    let split = name.split_once('.');
    let split =
        split.map(|(schema, table)| format!("{}.{}", sql::quoted(schema), sql::quoted(table)));
    [Some(sql::quoted(name)), split].into_iter().flatten()
}

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_read_as_postgresql_reads_it() {
        for (name, read) in [
            ("accounts", Some(r#""accounts""#)),
            ("Bank.Accounts", Some(r#""bank"."accounts""#)),
            (r#""Bank".accounts"#, Some(r#""Bank"."accounts""#)),
            (r#""a ""b"".c""#, Some(r#""a ""b"".c""#)),
            ("kontostände", Some("\"kontostände\"")),
            ("a.b.c", None),
            ("a.", None),
            ("", None),
            (r#""open"#, None),
            (r#""""#, None),
            ("a b", None),
            ("a(b)", None),
            ("nul\0", None),
        ] {
            assert_eq!(quoted(name).as_deref(), read, "{name}");
        }
    }
}
