//! What the server's catalogue says of the application's tables: what else a write touches.

use std::collections::{BTreeSet, HashMap, HashSet};

use diesel::connection::LoadConnection;
use diesel::dsl::sql;
use diesel::pg::Pg;
use diesel::sql_types::Text;
use diesel::{QueryResult, RunQueryDsl};

use super::query::{CATALOG, OPERATORS, OWN_PATH, VIEWS};
use super::tokens::{Token, tokens};
use crate::sessions::IsolationLevel;

/// What is called in an order that makes no difference.
pub(super) const CLOCKS: [&str; 10] = [
    "clock_timestamp",
    "gen_random_bytes",
    "gen_random_uuid",
    "gen_salt",
    "pg_backend_pid",
    "random",
    "statement_timestamp",
    "timeofday",
    "txid_current",
    "uuid_generate_v4",
];

#[derive(Debug, Default)]
pub(crate) struct Catalog {
    /// That of the connection; none is PostgreSQL's own default.
    pub(crate) default_level: Option<IsolationLevel>,
    /// The application's tables, by their qualified names.
    pub(crate) relations: HashMap<String, Relation>,
    /// By their unqualified names, without those of extensions that compute what they are given.
    pub(crate) functions: HashMap<String, Vec<Function>>,
    /// Whether an operator or a cast is a function of the application's.
    pub(crate) own_operators: bool,
    /// The server's functions that may do something, or see what others do.
    pub(crate) volatile: HashSet<String>,
}

#[derive(Debug, Default)]
pub(crate) struct Relation {
    /// `r`, `v` and so on, as in `pg_class`.
    pub(crate) kind: String,
    /// Its own name, without its schema and quotes.
    pub(crate) short: String,
    /// What it is a partition of, or inherits from, and what is so of it.
    pub(crate) relatives: Vec<String>,
    /// Columns of its unique indexes; none for one with an expression or a column that is generated.
    pub(crate) unique: Vec<Option<Vec<String>>>,
    /// Whether a unique index has a column that is generated.
    pub(crate) has_generated_key: bool,
    /// The columns of its primary key, with their types; none where it has more than these.
    pub(crate) key: Vec<(String, String)>,
    pub(crate) references: Vec<Reference>,
    pub(crate) referenced_by: Vec<Reference>,
    pub(crate) triggers: Vec<Trigger>,
    /// Rules, row security, or an expression of it that calls the application's functions, or those
    /// of the server's that do something.
    pub(crate) is_odd: bool,
    /// The same of a column's default.
    pub(crate) has_odd_default: bool,
    /// Whether something is checked when a transaction commits.
    pub(crate) is_deferred: bool,
    /// The sequences from which columns take their defaults; none is any.
    pub(crate) sequences: BTreeSet<Option<String>>,
    /// The columns that have numbers of sequences.
    pub(crate) numbered: Vec<String>,
}

#[derive(Debug, Clone)]
pub(crate) struct Reference {
    /// The other table.
    pub(crate) table: String,
    /// Whether a change of the parent writes the child.
    pub(crate) cascades: bool,
    /// Whether a child whose parent goes has another one then.
    pub(crate) sets_default: bool,
    /// The child's columns.
    pub(crate) columns: Vec<String>,
    /// The parent's columns, in the same order.
    pub(crate) parent_columns: Vec<String>,
}

#[derive(Debug)]
pub(crate) struct Trigger {
    pub(crate) function: String,
    /// Any of `i`, `u` and `d`, by which it is fired.
    pub(crate) events: String,
}

#[derive(Debug)]
pub(crate) struct Function {
    pub(crate) language: String,
    pub(crate) body: String,
}

type Row = (String, String, String, String);

/// What joins the names of columns: none has it.
const JOINT: char = '\u{1f}';

fn load<C: LoadConnection<Backend = Pg>>(conn: &mut C, query: &str) -> QueryResult<Vec<Row>> {
    sql::<(Text, Text, Text, Text)>(query).load(conn)
}

impl Catalog {
    /// One round trip, one more where there are operators, casts or domains, and three more where
    /// there are views.
    pub(crate) fn load<C: LoadConnection<Backend = Pg>>(conn: &mut C) -> QueryResult<Self> {
        let mut rows = load(conn, CATALOG)?;
        if rows.iter().any(|(kind, ..)| kind == "extra") {
            rows.extend(load(conn, OPERATORS)?);
        }
        let is_view = |(kind, _, detail, _): &Row| kind == "relation" && detail == "v";
        if rows.iter().any(is_view) {
            conn.batch_execute(OWN_PATH)?;
            let views = load(conn, VIEWS);
            conn.batch_execute("ROLLBACK")?;
            rows.extend(views?);
        }
        let mut catalog = Self::default();
        // A function may be called by what comes before it.
        for (kind, name, detail, more) in &rows {
            // Such as an extension has it.
            let is_clock = CLOCKS.contains(&name.as_str());
            if kind == "volatile" && !is_clock {
                catalog.volatile.insert(name.clone());
            }
            if kind == "function" && !(is_clock && detail == "c") {
                let function = Function {
                    language: detail.clone(),
                    body: more.clone(),
                };
                let functions = catalog.functions.entry(name.clone()).or_default();
                functions.push(function);
            }
        }
        for row in &rows {
            catalog.note(row);
        }
        Ok(catalog)
    }

    fn note(&mut self, (kind, name, detail, more): &Row) {
        if kind == "operator" {
            self.own_operators = true;
            return;
        }
        if kind == "level" {
            self.default_level = match detail.as_str() {
                "serializable" => Some(IsolationLevel::Serializable),
                "repeatable read" => Some(IsolationLevel::RepeatableRead),
                _ => None,
            };
            return;
        }
        if ["extra", "function", "volatile"].contains(&kind.as_str()) {
            return;
        }
        let words = tokens(more);
        let is_odd = self.does_more(&words);
        let relation = self.relations.entry(name.clone()).or_default();
        let columns =
            |text: &str| -> Vec<String> { text.split(JOINT).map(str::to_owned).collect() };
        match kind.as_str() {
            "relation" => {
                relation.kind.clone_from(detail);
                relation.is_odd |= more == "odd";
                relation.short = (tokens(name).last().and_then(Token::word))
                    .map_or_else(String::new, str::to_owned);
            }
            "unique" => {
                let columns = columns(detail);
                let is_whole = more != "expression" && more != "generated";
                relation.has_generated_key |= more == "generated";
                let types = more.strip_prefix("key ").map(|types| types.split(JOINT));
                let types: Vec<_> = types.into_iter().flatten().map(str::to_owned).collect();
                if types.len() == columns.len() {
                    relation.key = columns.iter().cloned().zip(types).collect();
                }
                relation.unique.push(is_whole.then_some(columns));
            }
            "trigger" => {
                relation.triggers.push(Trigger {
                    function: detail.clone(),
                    events: more.clone(),
                });
                relation.is_deferred |= more.contains('c');
            }
            "default" => {
                let takes = words.iter().any(|word| word.is("nextval"));
                relation.has_odd_default |= is_odd && !takes;
                if takes {
                    // `nextval('name'::regclass)`, or more than that.
                    let own = words.iter().find_map(|word| match word {
                        Token::Text(text) if words.len() == 7 => Some(text.clone()),
                        _ => None,
                    });
                    relation.sequences.insert(own);
                }
                if more == "identity" {
                    relation.sequences.insert(Some(name.clone()));
                }
                if takes || more == "identity" {
                    relation.numbered.push(detail.clone());
                }
            }
            "expression" => relation.is_odd |= is_odd,
            "deferred" => relation.is_deferred = true,
            "parent" => {
                relation.relatives.push(detail.clone());
                let parent = self.relations.entry(detail.clone()).or_default();
                parent.relatives.push(name.clone());
            }
            _ => self.note_reference(name, detail, more),
        }
    }

    fn note_reference(&mut self, child: &str, parent: &str, more: &str) {
        let parts: Vec<&str> = more.split(JOINT).collect();
        let [flags, columns @ ..] = parts.as_slice() else {
            return;
        };
        let (columns, parent_columns) = columns.split_at(columns.len() / 2);
        let owned = |columns: &[&str]| columns.iter().map(|&name| name.to_owned()).collect();
        let reference = |table: &str| Reference {
            table: table.to_owned(),
            cascades: flags.contains('c'),
            sets_default: flags.contains('s'),
            columns: owned(columns),
            parent_columns: owned(parent_columns),
        };
        let own = self.relations.entry(child.to_owned()).or_default();
        own.references.push(reference(parent));
        own.is_deferred |= flags.contains('d');
        let other = self.relations.entry(parent.to_owned()).or_default();
        other.referenced_by.push(reference(child));
        other.is_deferred |= flags.contains('d');
    }

    /// Whether an expression, as the server writes it, may do or see more than its words say.
    fn does_more(&self, words: &[Token]) -> bool {
        let is_call = |at: usize| words.get(at + 1) == Some(&Token::Sign('('));
        let mut names = words.iter().enumerate();
        names.any(|(at, word)| {
            let Some(name) = word.word() else {
                return false;
            };
            // INDEX is a word of every index, and a function of some extension.
            (is_call(at) && !self.computes(name))
                || name == "nextval"
                || is_of_the_server(name)
                || name.starts_with("pg_advisory_")
                || name.starts_with("pg_try_advisory_")
        })
    }

    /// Whether a function only makes a value of what it is given, as far as its words tell.
    pub(crate) fn computes(&self, name: &str) -> bool {
        const TOUCHING: [&str; 12] = [
            "call", "copy", "delete", "do", "execute", "from", "insert", "into", "lock", "merge",
            "perform", "table",
        ];
        let is_harmless = |word: &str| {
            !TOUCHING.contains(&word)
                && !["nextval", "update"].contains(&word)
                && !self.functions.contains_key(word)
                && !self.volatile.contains(word)
                && !is_of_the_server(word)
                && !word.starts_with("pg_")
        };
        match self.functions.get(name) {
            Some(functions) => functions.iter().all(|function| {
                let is_read = matches!(function.language.as_str(), "sql" | "plpgsql");
                let tokens = tokens(&function.body);
                // Of `IS DISTINCT FROM`.
                let compares = |at: usize| {
                    at > 1
                        && tokens[at - 1].is("distinct")
                        && (tokens[at - 2].is("is") || tokens[at - 2].is("not"))
                };
                is_read
                    && !function.body.is_empty()
                    && tokens.iter().enumerate().all(|(at, token)| {
                        token.word().is_none_or(is_harmless) || (token.is("from") && compares(at))
                    })
            }),
            None => !self.volatile.contains(name),
        }
    }

    /// Whether what it touches can't be told of the relation, or of one of its family.
    pub(crate) fn is_odd(&self, name: &str) -> bool {
        let family = self.family(name).into_iter();
        let mut known = family.filter_map(|name| self.relations.get(name));
        known.any(|relation| relation.is_odd || relation.kind == "f")
    }

    /// A relation with all that it is a part of and all its parts, sorted.
    pub(crate) fn family<'c>(&'c self, name: &'c str) -> BTreeSet<&'c str> {
        let mut family = BTreeSet::from([name]);
        let mut left = vec![name];
        while let Some(one) = left.pop() {
            let known = self.relations.get(one);
            for other in known.into_iter().flat_map(|known| &known.relatives) {
                if family.insert(other) {
                    left.push(other);
                }
            }
        }
        family
    }

    /// The relation that stands for all that are of its family.
    pub(crate) fn root<'c>(&'c self, name: &'c str) -> &'c str {
        self.family(name).first().copied().unwrap_or(name)
    }
}

/// Whether a name may be that of a view of what all sessions do, such as `pg_locks`, or of a
/// function that reads tables by their names.
pub(super) fn is_of_the_server(name: &str) -> bool {
    let is_known = ["pg_catalog", "pg_backend_pid", "txid_current"].contains(&name)
        || name.starts_with("pg_advisory_")
        || name.starts_with("pg_try_advisory_");
    let is_own = name.starts_with("pg_") || name.starts_with("txid_");
    name == "information_schema" || name.contains("to_xml") || (is_own && !is_known)
}
