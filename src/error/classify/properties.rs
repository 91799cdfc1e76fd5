use diesel::result::{DatabaseErrorKind, Error};
use proptest::prelude::*;
use proptest::sample::select;

use super::{Class, classify, process};
use crate::error::messages::{MESSAGES, Message};
use crate::error::target::LockTarget;
use crate::hostile::{cases, text};

proptest! {
    #![proptest_config(cases(2_000))]

    /// Korean and French have one text for both, which is a relation's.
    #[test]
    fn a_relation_is_called_as_it_is_in_every_language(
        (message, template) in select(MESSAGES),
        relation in text(),
    ) {
        let said = Box::new(template.replace("%s", &relation));
        let class = classify(&Error::DatabaseError(DatabaseErrorKind::Unknown, said));
        match message {
            Message::RowNotAvailable => {
                prop_assert_eq!(class, Class::NotAvailable(LockTarget::Row { relation }));
            }
            Message::RelationNotAvailable => {
                prop_assert_eq!(class, Class::NotAvailable(LockTarget::Relation { relation }));
            }
            _ => prop_assert!(!matches!(class, Class::NotAvailable(_) | Class::Unknown)),
        }
    }

    #[test]
    fn any_line_of_a_detail_is_read_or_left(line in text()) {
        if let Some(process) = process(&line) {
            prop_assert!(process.mode.ends_with("Lock") && line.contains(&process.object));
        }
    }
}
