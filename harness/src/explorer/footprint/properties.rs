//! Any text is borne as a statement.

use proptest::collection::vec;
use proptest::prelude::*;

use super::statement::Statement;
use super::tokens::{Token, statements, tokens};
use crate::hostile::{cases, text};

proptest! {
    #![proptest_config(cases(500))]

    #[test]
    fn a_label_is_one_word_of_a_schedule(text in text()) {
        let statement = Statement::parse(&text);
        let label = statement.label();
        prop_assert_eq!(label.split_whitespace().collect::<Vec<_>>(), [&label]);
        let _ = (statement.kind(), statement.words(), statement.is_housekeeping(true, true));
        for part in statement.split() {
            prop_assert!(!tokens(&part.sql).is_empty());
        }
    }

    #[test]
    fn statements_that_are_complete_are_split_where_they_were_joined(
        texts in vec(text(), 1..4),
        names in vec(text(), 1..4),
    ) {
        let texts = texts.iter().map(|text| format!("SELECT '{}'", text.replace('\'', "''")));
        let names = names.iter().map(|name| format!("SELECT \"{}\"", name.replace('"', "\"\"")));
        let all: Vec<_> = texts.chain(names).collect();
        prop_assert_eq!(statements(&all.join(";")), all.clone());
        prop_assert_eq!(statements(&all.join(" /* ; */ ;; -- ;\n;")).len(), all.len());
    }

    #[test]
    fn a_quoted_text_is_one_token_that_has_it(text in text()) {
        let literal = format!("'{}'", text.replace('\'', "''"));
        prop_assert_eq!(tokens(&literal), [Token::Text(text.clone())]);
        let escaped = text.replace('\\', "\\\\").replace('\'', "\\'");
        let escaped = tokens(&format!("E'{escaped}'"));
        prop_assert_eq!(escaped.last(), Some(&Token::Text(text.clone())));
        let name = format!("\"{}\"", text.replace('"', "\"\""));
        prop_assert_eq!(tokens(&name), [Token::Word { text, quoted: true }]);
    }

    #[test]
    fn binds_are_those_that_diesel_showed(binds in vec(any::<(Option<i64>, String)>(), 0..4)) {
        let shown: Vec<_> = binds
            .iter()
            .flat_map(|(number, text)| [format!("{number:?}"), format!("{text:?}")])
            .collect();
        let statement = Statement::parse(&format!("SELECT 1 -- binds: [{}]", shown.join(", ")));
        prop_assert_eq!(statement.sql, "SELECT 1");
        prop_assert_eq!(statement.binds, shown);
    }
}
