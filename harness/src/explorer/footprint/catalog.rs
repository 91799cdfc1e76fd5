//! What the server's catalogue says of the application's tables: what else a write touches.

use std::collections::{BTreeSet, HashMap, HashSet};

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
    /// The column that is its primary key, with its type, where it is a single one.
    pub(crate) key: Option<(String, String)>,
    pub(crate) references: Vec<Reference>,
    pub(crate) referenced_by: Vec<Reference>,
    /// The functions of its triggers.
    pub(crate) triggers: Vec<String>,
    /// Rules, row security, or an expression of it that calls the application's functions, or those
    /// of the server's that do something.
    pub(crate) is_odd: bool,
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
        if kind == "function" || kind == "volatile" {
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
                let takes = words.iter().any(|word| word.is("nextval"));
                relation.is_odd |= is_odd && !takes;
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

    /// Whether an expression may do or see more than its words say.
    fn does_more(&self, words: &[Token]) -> bool {
        let mut names = words.iter().filter_map(Token::word);
        names.any(|name| {
            self.functions.contains_key(name)
                || self.volatile.contains(name)
                || name == "nextval"
                || is_of_the_server(name)
                || name.starts_with("pg_advisory_")
                || name.starts_with("pg_try_advisory_")
        })
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

const CATALOG: &str = "\
SELECT * FROM (WITH app AS MATERIALIZED (SELECT c.oid, c.relkind::pg_catalog.text AS kind, c.relrowsecurity, \
pg_catalog.format('%I.%I', n.nspname, c.relname) AS name \
FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n \
ON n.oid OPERATOR(pg_catalog.=) c.relnamespace \
WHERE pg_catalog.strpos('rpvmf', c.relkind::pg_catalog.text) OPERATOR(pg_catalog.>) 0 \
AND NOT pg_catalog.starts_with(n.nspname::pg_catalog.text, 'pg_') \
AND n.nspname::pg_catalog.text OPERATOR(pg_catalog.<>) 'information_schema'), \
indexes AS (SELECT app.name, app.oid, i.indexrelid, i.indisprimary, i.indpred, i.indexprs, \
i.indisexclusion, i.indimmediate, EXISTS (SELECT FROM pg_catalog.pg_attribute AS a WHERE \
(a.attrelid OPERATOR(pg_catalog.=) i.indrelid) AND (a.attnum::pg_catalog.int2 OPERATOR(pg_catalog.=) \
ANY (i.indkey)) AND a.attgenerated::pg_catalog.text OPERATOR(pg_catalog.<>) '') AS is_generated, (SELECT pg_catalog.string_agg(a.attname::pg_catalog.text, pg_catalog.chr(31)) \
FROM pg_catalog.pg_attribute AS a WHERE a.attrelid OPERATOR(pg_catalog.=) i.indexrelid) AS columns, \
(SELECT pg_catalog.min(CASE WHEN l.collisdeterministic OPERATOR(pg_catalog.=) false THEN '' \
ELSE pg_catalog.format_type(a.atttypid, a.atttypmod) END) \
FROM pg_catalog.pg_attribute AS a LEFT JOIN pg_catalog.pg_collation AS l \
ON l.oid OPERATOR(pg_catalog.=) a.attcollation WHERE a.attrelid OPERATOR(pg_catalog.=) i.indexrelid) AS type \
FROM app JOIN pg_catalog.pg_index AS i ON i.indrelid OPERATOR(pg_catalog.=) app.oid \
WHERE i.indisunique OR i.indisexclusion) \
SELECT 'relation'::pg_catalog.text, name, kind, CASE WHEN relrowsecurity OR EXISTS (SELECT FROM \
pg_catalog.pg_rewrite AS r WHERE (r.ev_class OPERATOR(pg_catalog.=) app.oid) \
AND r.rulename::pg_catalog.text OPERATOR(pg_catalog.<>) '_RETURN') THEN 'odd' ELSE '' END FROM app \
UNION ALL SELECT 'parent', app.name, parent.name, '' FROM app JOIN pg_catalog.pg_inherits AS i \
ON i.inhrelid OPERATOR(pg_catalog.=) app.oid JOIN app AS parent \
ON parent.oid OPERATOR(pg_catalog.=) i.inhparent \
UNION ALL SELECT 'unique', name, coalesce(columns, ''), CASE \
WHEN indpred IS NOT NULL OR indexprs IS NOT NULL OR indisexclusion OR is_generated THEN 'expression' \
WHEN indisprimary THEN pg_catalog.concat('key ', type) ELSE '' END FROM indexes \
UNION ALL SELECT 'deferred', name, '', '' FROM indexes WHERE NOT indimmediate \
UNION ALL SELECT 'expression', app.name, '', pg_catalog.pg_get_indexdef(i.indexrelid) \
FROM app JOIN pg_catalog.pg_index AS i ON i.indrelid OPERATOR(pg_catalog.=) app.oid \
WHERE i.indpred IS NOT NULL OR i.indexprs IS NOT NULL \
UNION ALL SELECT 'expression', name, '', pg_catalog.pg_get_viewdef(oid) FROM app \
WHERE kind OPERATOR(pg_catalog.=) 'v' \
UNION ALL SELECT 'expression', app.name, '', pg_catalog.split_part(\
pg_catalog.split_part(pg_catalog.pg_get_triggerdef(t.oid), ' EXECUTE ', 1), ' WHEN ', 2) FROM pg_catalog.pg_trigger AS t JOIN app \
ON app.oid OPERATOR(pg_catalog.=) t.tgrelid WHERE t.tgqual IS NOT NULL \
UNION ALL SELECT DISTINCT 'volatile', p.proname::pg_catalog.text, '', '' \
FROM pg_catalog.pg_proc AS p WHERE (p.provolatile::pg_catalog.text OPERATOR(pg_catalog.=) 'v') \
AND NOT pg_catalog.starts_with(p.proname::pg_catalog.text, 'pg_') \
AND p.proname::pg_catalog.text OPERATOR(pg_catalog.<>) 'nextval' \
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
l.lanname::pg_catalog.text OPERATOR(pg_catalog.<>) 'c') \
OR EXISTS (SELECT FROM pg_catalog.pg_type AS t WHERE (t.typtype::pg_catalog.text \
OPERATOR(pg_catalog.=) 'd') AND (t.oid OPERATOR(pg_catalog.>=) 16384::pg_catalog.oid) \
AND pg_catalog.strpos(t.typdefault, '(') OPERATOR(pg_catalog.>) 0) \
OR EXISTS (SELECT FROM pg_catalog.pg_constraint AS k JOIN pg_catalog.pg_depend AS d \
ON d.objid OPERATOR(pg_catalog.=) k.oid WHERE (k.contypid OPERATOR(pg_catalog.<>) 0::pg_catalog.oid) \
AND (k.oid OPERATOR(pg_catalog.>=) 16384::pg_catalog.oid) \
AND (d.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_constraint'::pg_catalog.regclass) \
AND (d.refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_proc'::pg_catalog.regclass))) AS catalog";
