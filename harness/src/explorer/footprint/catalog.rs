//! What the server's catalogue says of the application's tables: what else a write touches.

use std::collections::HashMap;

use diesel::connection::LoadConnection;
use diesel::dsl::sql;
use diesel::pg::Pg;
use diesel::sql_types::Text;
use diesel::{QueryResult, RunQueryDsl};

use super::tokens::{Token, tokens};

/// What is called in an order that makes no difference.
pub(super) const CLOCKS: [&str; 8] = [
    "clock_timestamp",
    "gen_random_uuid",
    "pg_backend_pid",
    "random",
    "statement_timestamp",
    "timeofday",
    "txid_current",
    "uuid_generate_v4",
];

/// The application's tables, by their qualified names.
#[derive(Debug, Default)]
pub(crate) struct Catalog {
    pub(crate) relations: HashMap<String, Relation>,
    /// By their unqualified names.
    pub(crate) functions: HashMap<String, Vec<Function>>,
    /// Whether an operator or a cast is a function of the application's.
    pub(crate) own_operators: bool,
}

#[derive(Debug, Default)]
pub(crate) struct Relation {
    /// `r`, `v` and so on, as in `pg_class`.
    pub(crate) kind: String,
    /// What it is a partition of, or inherits from.
    pub(crate) parents: Vec<String>,
    pub(crate) has_children: bool,
    /// Columns of its unique indexes; none for one with an expression.
    pub(crate) unique: Vec<Option<Vec<String>>>,
    /// The column that is its primary key, with its type, where it is a single one.
    pub(crate) key: Option<(String, String)>,
    pub(crate) references: Vec<Reference>,
    pub(crate) referenced_by: Vec<Reference>,
    /// The functions of its triggers.
    pub(crate) triggers: Vec<String>,
    /// Rules, row security, or an expression of its columns that calls the application's functions.
    pub(crate) is_odd: bool,
    /// Whether something is checked when a transaction commits.
    pub(crate) is_deferred: bool,
    /// Whether a column takes its default from a sequence.
    pub(crate) sequence: Option<String>,
    /// The columns that have numbers of sequences.
    pub(crate) numbered: Vec<String>,
}

#[derive(Debug, Clone)]
pub(crate) struct Reference {
    /// The other table.
    pub(crate) table: String,
    /// Whether a change of the parent writes the child.
    pub(crate) cascades: bool,
    /// The child's columns.
    pub(crate) columns: Vec<String>,
}

#[derive(Debug)]
pub(crate) struct Function {
    pub(crate) language: String,
    pub(crate) body: String,
}

type Row = (String, String, String, String);

/// What joins the names of columns: none has it.
const JOINT: char = '\u{1f}';

impl Catalog {
    /// Three round trips at most, two of them for types that are looked up once.
    pub(crate) fn load<C: LoadConnection<Backend = Pg>>(conn: &mut C) -> QueryResult<Self> {
        let rows: Vec<Row> = sql::<(Text, Text, Text, Text)>(CATALOG).load(conn)?;
        let mut catalog = Self::default();
        // A function may be called by what comes before it.
        for (kind, name, detail, more) in &rows {
            // Such as an extension has it.
            let is_clock = detail == "c" && CLOCKS.contains(&name.as_str());
            if kind == "function" && !is_clock {
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
        if kind == "function" {
            return;
        }
        let calls_own = self.calls_own(more);
        let relation = self.relations.entry(name.clone()).or_default();
        let columns =
            |text: &str| -> Vec<String> { text.split(JOINT).map(str::to_owned).collect() };
        match kind.as_str() {
            "relation" => {
                relation.kind.clone_from(detail);
                relation.is_odd |= more == "odd";
            }
            "unique" => {
                let columns = columns(detail);
                let is_whole = more != "expression";
                if let (Some(of_type), [column]) = (more.strip_prefix("key "), columns.as_slice()) {
                    relation.key = Some((column.clone(), of_type.to_owned()));
                }
                relation.unique.push(is_whole.then_some(columns));
            }
            "trigger" => {
                relation.triggers.push(detail.clone());
                relation.is_deferred |= more == "deferred";
            }
            "default" => {
                relation.is_odd |= calls_own;
                if more.contains("nextval") || more == "identity" {
                    relation.sequence = Some(name.clone());
                    relation.numbered.push(detail.clone());
                }
            }
            "expression" => relation.is_odd |= calls_own,
            "parent" => {
                relation.parents.push(detail.clone());
                let parent = self.relations.entry(detail.clone()).or_default();
                parent.has_children = true;
            }
            _ => self.note_reference(name, detail, &columns(more)),
        }
    }

    fn note_reference(&mut self, child: &str, parent: &str, more: &[String]) {
        let [flags, columns @ ..] = more else {
            return;
        };
        let reference = |table: &str| Reference {
            table: table.to_owned(),
            cascades: flags.contains('c'),
            columns: columns.to_vec(),
        };
        let own = self.relations.entry(child.to_owned()).or_default();
        own.references.push(reference(parent));
        own.is_deferred |= flags.contains('d');
        let other = self.relations.entry(parent.to_owned()).or_default();
        other.referenced_by.push(reference(child));
        other.is_deferred |= flags.contains('d');
    }

    fn calls_own(&self, words: &str) -> bool {
        let tokens = tokens(words);
        let mut names = tokens.iter().filter_map(Token::word);
        names.any(|name| self.functions.contains_key(name))
    }

    /// The relation that stands for all that it is a part of.
    pub(crate) fn root<'c>(&'c self, name: &'c str) -> &'c str {
        let mut root = name;
        // As deep as no hierarchy is.
        for _ in 0..64 {
            match self
                .relations
                .get(root)
                .and_then(|known| known.parents.first())
            {
                Some(parent) => root = parent,
                None => break,
            }
        }
        root
    }
}

const CATALOG: &str = "\
SELECT * FROM (WITH app AS MATERIALIZED (SELECT c.oid, c.relkind::pg_catalog.text AS kind, c.relrowsecurity, \
pg_catalog.format('%I.%I', n.nspname, c.relname) AS name \
FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n \
ON n.oid OPERATOR(pg_catalog.=) c.relnamespace \
WHERE pg_catalog.strpos('rpvmf', c.relkind::pg_catalog.text) OPERATOR(pg_catalog.>) 0 \
AND NOT pg_catalog.starts_with(n.nspname::pg_catalog.text, 'pg_') \
AND n.nspname::pg_catalog.text OPERATOR(pg_catalog.<>) 'information_schema'), \
indexes AS (SELECT app.name, app.oid, i.indexrelid, i.indisprimary, i.indpred, i.indexprs, \
i.indisexclusion, (SELECT pg_catalog.string_agg(a.attname::pg_catalog.text, pg_catalog.chr(31)) \
FROM pg_catalog.pg_attribute AS a WHERE a.attrelid OPERATOR(pg_catalog.=) i.indexrelid) AS columns, \
(SELECT pg_catalog.min(pg_catalog.format_type(a.atttypid, a.atttypmod)) \
FROM pg_catalog.pg_attribute AS a WHERE a.attrelid OPERATOR(pg_catalog.=) i.indexrelid) AS type \
FROM app JOIN pg_catalog.pg_index AS i ON i.indrelid OPERATOR(pg_catalog.=) app.oid \
WHERE i.indisunique OR i.indisexclusion) \
SELECT 'relation'::pg_catalog.text, name, kind, CASE WHEN relrowsecurity OR EXISTS (SELECT FROM \
pg_catalog.pg_rewrite AS r WHERE (r.ev_class OPERATOR(pg_catalog.=) app.oid) \
AND r.rulename::pg_catalog.text OPERATOR(pg_catalog.<>) '_RETURN') THEN 'odd' ELSE '' END FROM app \
UNION ALL SELECT 'parent', app.name, parent.name, '' FROM app JOIN pg_catalog.pg_inherits AS i \
ON i.inhrelid OPERATOR(pg_catalog.=) app.oid JOIN app AS parent \
ON parent.oid OPERATOR(pg_catalog.=) i.inhparent \
UNION ALL SELECT 'unique', name, coalesce(columns, ''), CASE \
WHEN indpred IS NOT NULL OR indexprs IS NOT NULL OR indisexclusion THEN 'expression' \
WHEN indisprimary THEN pg_catalog.concat('key ', type) ELSE '' END FROM indexes \
UNION ALL SELECT 'expression', name, '', pg_catalog.pg_get_indexdef(indexrelid) FROM indexes \
WHERE indpred IS NOT NULL OR indexprs IS NOT NULL \
UNION ALL SELECT 'reference', child.name, parent.name, pg_catalog.concat(CASE WHEN \
pg_catalog.strpos('cnd', k.confdeltype::pg_catalog.text) OPERATOR(pg_catalog.>) 0 \
OR pg_catalog.strpos('cnd', k.confupdtype::pg_catalog.text) OPERATOR(pg_catalog.>) 0 THEN 'c' END, \
CASE WHEN k.condeferrable THEN 'd' END, pg_catalog.chr(31), \
(SELECT pg_catalog.string_agg(a.attname::pg_catalog.text, pg_catalog.chr(31)) \
FROM pg_catalog.unnest(k.conkey) AS number JOIN pg_catalog.pg_attribute AS a \
ON a.attnum OPERATOR(pg_catalog.=) number WHERE a.attrelid OPERATOR(pg_catalog.=) k.conrelid)) \
FROM pg_catalog.pg_constraint AS k JOIN app AS child ON child.oid OPERATOR(pg_catalog.=) k.conrelid \
JOIN app AS parent ON parent.oid OPERATOR(pg_catalog.=) k.confrelid \
UNION ALL SELECT 'expression', app.name, '', pg_catalog.pg_get_constraintdef(k.oid) \
FROM pg_catalog.pg_constraint AS k JOIN app ON app.oid OPERATOR(pg_catalog.=) k.conrelid \
WHERE k.contype::pg_catalog.text OPERATOR(pg_catalog.=) 'c' \
UNION ALL SELECT 'trigger', app.name, p.proname::pg_catalog.text, \
CASE WHEN t.tgdeferrable THEN 'deferred' ELSE '' END \
FROM pg_catalog.pg_trigger AS t JOIN app ON app.oid OPERATOR(pg_catalog.=) t.tgrelid \
JOIN pg_catalog.pg_proc AS p ON p.oid OPERATOR(pg_catalog.=) t.tgfoid WHERE NOT t.tgisinternal \
UNION ALL SELECT 'default', app.name, a.attname::pg_catalog.text, \
CASE WHEN a.attidentity::pg_catalog.text OPERATOR(pg_catalog.<>) '' THEN 'identity' \
ELSE coalesce(pg_catalog.pg_get_expr(d.adbin, d.adrelid), '') END \
FROM app JOIN pg_catalog.pg_attribute AS a ON a.attrelid OPERATOR(pg_catalog.=) app.oid \
LEFT JOIN pg_catalog.pg_attrdef AS d ON (d.adrelid OPERATOR(pg_catalog.=) app.oid) \
AND (d.adnum OPERATOR(pg_catalog.=) a.attnum) WHERE a.attnum OPERATOR(pg_catalog.>) 0 \
AND (a.atthasdef OR a.attidentity::pg_catalog.text OPERATOR(pg_catalog.<>) '') \
UNION ALL SELECT 'function', p.proname::pg_catalog.text, l.lanname::pg_catalog.text, p.prosrc \
FROM pg_catalog.pg_proc AS p JOIN pg_catalog.pg_namespace AS n \
ON n.oid OPERATOR(pg_catalog.=) p.pronamespace JOIN pg_catalog.pg_language AS l \
ON l.oid OPERATOR(pg_catalog.=) p.prolang \
WHERE NOT pg_catalog.starts_with(n.nspname::pg_catalog.text, 'pg_') \
AND n.nspname::pg_catalog.text OPERATOR(pg_catalog.<>) 'information_schema' \
UNION ALL SELECT 'operator', '', '', '' WHERE EXISTS (SELECT FROM pg_catalog.pg_operator AS o \
JOIN pg_catalog.pg_proc AS p ON p.oid OPERATOR(pg_catalog.=) o.oprcode::pg_catalog.oid \
JOIN pg_catalog.pg_language AS l ON l.oid OPERATOR(pg_catalog.=) p.prolang \
WHERE (o.oid OPERATOR(pg_catalog.>=) 16384::pg_catalog.oid) AND \
l.lanname::pg_catalog.text OPERATOR(pg_catalog.<>) 'c') \
OR EXISTS (SELECT FROM pg_catalog.pg_cast AS o \
JOIN pg_catalog.pg_proc AS p ON p.oid OPERATOR(pg_catalog.=) o.castfunc \
JOIN pg_catalog.pg_language AS l ON l.oid OPERATOR(pg_catalog.=) p.prolang \
WHERE (o.oid OPERATOR(pg_catalog.>=) 16384::pg_catalog.oid) AND \
l.lanname::pg_catalog.text OPERATOR(pg_catalog.<>) 'c')) AS catalog";
