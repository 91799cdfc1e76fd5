// @generated automatically by Diesel CLI.

diesel::table! {
    accounts (id) {
        id -> Int4,
        owner -> Text,
        balance -> Int8,
    }
}

diesel::table! {
    jobs (id) {
        id -> Int4,
        account_id -> Int4,
        payload -> Text,
        done -> Bool,
    }
}

diesel::joinable!(jobs -> accounts (account_id));

diesel::allow_tables_to_appear_in_same_query!(accounts, jobs,);
