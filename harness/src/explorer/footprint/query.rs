//! What is asked of the server's catalogue: rows of a kind, a name and two details.

pub(super) const CATALOG: &str = "\
SELECT * FROM (WITH app AS MATERIALIZED (SELECT c.oid, c.relkind::pg_catalog.text AS kind, c.relrowsecurity, \
pg_catalog.format('%I.%I', n.nspname, c.relname) AS name \
FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n \
ON n.oid OPERATOR(pg_catalog.=) c.relnamespace \
WHERE (c.oid OPERATOR(pg_catalog.>=) 16384::pg_catalog.oid) \
AND pg_catalog.strpos('rpvmf', c.relkind::pg_catalog.text) OPERATOR(pg_catalog.>) 0 \
AND NOT pg_catalog.starts_with(n.nspname::pg_catalog.text, 'pg_')), \
indexes AS (SELECT app.name, i.indisprimary, i.indpred, i.indexprs, i.indisexclusion, \
i.indimmediate, key.is_generated, key.columns, key.types \
FROM app JOIN pg_catalog.pg_index AS i ON i.indrelid OPERATOR(pg_catalog.=) app.oid \
CROSS JOIN LATERAL (SELECT \
pg_catalog.bool_or(a.attgenerated::pg_catalog.text OPERATOR(pg_catalog.<>) '') AS is_generated, \
pg_catalog.string_agg(a.attname::pg_catalog.text, pg_catalog.chr(31) ORDER BY k.place) AS columns, \
CASE WHEN i.indnatts OPERATOR(pg_catalog.=) i.indnkeyatts THEN pg_catalog.string_agg(\
CASE WHEN l.collisdeterministic OPERATOR(pg_catalog.=) false THEN '' \
ELSE pg_catalog.format_type(a.atttypid, a.atttypmod) END, pg_catalog.chr(31) ORDER BY k.place) END AS types \
FROM pg_catalog.unnest(i.indkey::pg_catalog.int2[]) WITH ORDINALITY AS k (number, place) \
JOIN pg_catalog.pg_attribute AS a ON (a.attrelid OPERATOR(pg_catalog.=) i.indrelid) \
AND a.attnum OPERATOR(pg_catalog.=) k.number LEFT JOIN pg_catalog.pg_collation AS l \
ON l.oid OPERATOR(pg_catalog.=) a.attcollation) AS key WHERE i.indisunique OR i.indisexclusion) \
SELECT 'relation'::pg_catalog.text, name, kind, CASE WHEN relrowsecurity OR EXISTS (SELECT FROM \
pg_catalog.pg_rewrite AS r WHERE (r.ev_class OPERATOR(pg_catalog.=) app.oid) \
AND r.rulename::pg_catalog.text OPERATOR(pg_catalog.<>) '_RETURN') THEN 'odd' ELSE '' END FROM app \
UNION ALL SELECT 'parent', app.name, parent.name, '' FROM app JOIN pg_catalog.pg_inherits AS i \
ON i.inhrelid OPERATOR(pg_catalog.=) app.oid JOIN app AS parent \
ON parent.oid OPERATOR(pg_catalog.=) i.inhparent \
UNION ALL SELECT 'unique', name, coalesce(columns, ''), CASE \
WHEN indpred IS NOT NULL OR indexprs IS NOT NULL OR indisexclusion THEN 'expression' \
WHEN is_generated THEN 'generated' \
WHEN indisprimary THEN pg_catalog.concat('key ', types) ELSE '' END FROM indexes \
UNION ALL SELECT 'deferred', name, '', '' FROM indexes WHERE NOT indimmediate \
UNION ALL SELECT 'expression', app.name, '', pg_catalog.pg_get_indexdef(i.indexrelid) \
FROM app JOIN pg_catalog.pg_index AS i ON i.indrelid OPERATOR(pg_catalog.=) app.oid \
WHERE i.indpred IS NOT NULL OR i.indexprs IS NOT NULL \
UNION ALL SELECT 'expression', app.name, '', pg_catalog.split_part(\
pg_catalog.split_part(pg_catalog.pg_get_triggerdef(t.oid), ' EXECUTE ', 1), ' WHEN ', 2) FROM pg_catalog.pg_trigger AS t JOIN app \
ON app.oid OPERATOR(pg_catalog.=) t.tgrelid WHERE t.tgqual IS NOT NULL \
UNION ALL SELECT DISTINCT 'volatile', p.proname::pg_catalog.text, '', '' \
FROM pg_catalog.pg_proc AS p \
WHERE (p.provolatile OPERATOR(pg_catalog.=) 'v'::pg_catalog.\"char\") \
AND NOT pg_catalog.starts_with(p.proname::pg_catalog.text, 'pg_') \
AND p.proname::pg_catalog.text OPERATOR(pg_catalog.<>) 'nextval' \
UNION ALL SELECT 'reference', child.name, parent.name, pg_catalog.concat(CASE WHEN \
pg_catalog.strpos('cnd', k.confdeltype::pg_catalog.text) OPERATOR(pg_catalog.>) 0 \
OR pg_catalog.strpos('cnd', k.confupdtype::pg_catalog.text) OPERATOR(pg_catalog.>) 0 THEN 'c' END, \
CASE WHEN k.condeferrable THEN 'd' END, \
CASE WHEN k.confdeltype::pg_catalog.text OPERATOR(pg_catalog.=) 'd' THEN 's' END, pg_catalog.chr(31), \
(SELECT pg_catalog.string_agg(a.attname::pg_catalog.text, pg_catalog.chr(31) ORDER BY of.part, of.place) \
FROM (SELECT 1 AS part, k.conrelid AS relation, place, number \
FROM pg_catalog.unnest(k.conkey) WITH ORDINALITY AS own (number, place) \
UNION ALL SELECT 2, k.confrelid, place, number \
FROM pg_catalog.unnest(k.confkey) WITH ORDINALITY AS other (number, place)) AS of \
JOIN pg_catalog.pg_attribute AS a ON (a.attnum OPERATOR(pg_catalog.=) of.number) \
AND a.attrelid OPERATOR(pg_catalog.=) of.relation)) \
FROM pg_catalog.pg_constraint AS k JOIN app AS child ON child.oid OPERATOR(pg_catalog.=) k.conrelid \
JOIN app AS parent ON parent.oid OPERATOR(pg_catalog.=) k.confrelid \
UNION ALL SELECT 'expression', app.name, '', pg_catalog.pg_get_constraintdef(k.oid) \
FROM pg_catalog.pg_constraint AS k JOIN app ON app.oid OPERATOR(pg_catalog.=) k.conrelid \
WHERE k.contype::pg_catalog.text OPERATOR(pg_catalog.=) 'c' \
UNION ALL SELECT 'expression', name, '', pg_catalog.pg_get_partkeydef(oid) FROM app \
WHERE kind OPERATOR(pg_catalog.=) 'p' \
UNION ALL SELECT 'trigger', app.name, p.proname::pg_catalog.text, \
pg_catalog.concat(CASE WHEN t.tgdeferrable THEN 'c' END, \
CASE WHEN (t.tgtype::pg_catalog.int4 OPERATOR(pg_catalog.&) 4) OPERATOR(pg_catalog.<>) 0 THEN 'i' END, \
CASE WHEN (t.tgtype::pg_catalog.int4 OPERATOR(pg_catalog.&) 8) OPERATOR(pg_catalog.<>) 0 THEN 'd' END, \
CASE WHEN (t.tgtype::pg_catalog.int4 OPERATOR(pg_catalog.&) 16) OPERATOR(pg_catalog.<>) 0 THEN 'u' END) \
FROM pg_catalog.pg_trigger AS t JOIN app ON app.oid OPERATOR(pg_catalog.=) t.tgrelid \
JOIN pg_catalog.pg_proc AS p ON p.oid OPERATOR(pg_catalog.=) t.tgfoid WHERE NOT t.tgisinternal \
UNION ALL SELECT CASE WHEN a.attgenerated::pg_catalog.text OPERATOR(pg_catalog.=) '' \
THEN 'default' ELSE 'expression' END, app.name, a.attname::pg_catalog.text, \
CASE WHEN a.attidentity::pg_catalog.text OPERATOR(pg_catalog.<>) '' THEN 'identity' \
ELSE coalesce(pg_catalog.pg_get_expr(d.adbin, d.adrelid), '') END \
FROM app JOIN pg_catalog.pg_attribute AS a ON a.attrelid OPERATOR(pg_catalog.=) app.oid \
LEFT JOIN pg_catalog.pg_attrdef AS d ON (d.adrelid OPERATOR(pg_catalog.=) app.oid) \
AND (d.adnum OPERATOR(pg_catalog.=) a.attnum) WHERE a.attnum OPERATOR(pg_catalog.>) 0 \
AND (a.atthasdef OR a.attidentity::pg_catalog.text OPERATOR(pg_catalog.<>) '') \
UNION ALL SELECT 'function', p.proname::pg_catalog.text, l.lanname::pg_catalog.text, \
CASE WHEN (p.prosrc OPERATOR(pg_catalog.=) '') OR p.proargdefaults IS NULL THEN p.prosrc \
ELSE pg_catalog.concat(p.prosrc, pg_catalog.chr(10), ';', \
pg_catalog.pg_get_expr(p.proargdefaults, 0::pg_catalog.oid)) END \
FROM pg_catalog.pg_proc AS p JOIN pg_catalog.pg_namespace AS n \
ON n.oid OPERATOR(pg_catalog.=) p.pronamespace JOIN pg_catalog.pg_language AS l \
ON l.oid OPERATOR(pg_catalog.=) p.prolang \
WHERE (p.oid OPERATOR(pg_catalog.>=) 16384::pg_catalog.oid) \
AND NOT pg_catalog.starts_with(n.nspname::pg_catalog.text, 'pg_') \
AND NOT ((l.lanname::pg_catalog.text OPERATOR(pg_catalog.=) 'c') \
AND p.provolatile::pg_catalog.text OPERATOR(pg_catalog.=) 'i') \
UNION ALL SELECT 'level', '', pg_catalog.current_setting('default_transaction_isolation'), '' \
UNION ALL SELECT 'extra', '', '', '' WHERE EXISTS (SELECT FROM pg_catalog.pg_operator AS o \
WHERE o.oid OPERATOR(pg_catalog.>=) 16384::pg_catalog.oid) \
OR EXISTS (SELECT FROM pg_catalog.pg_cast AS o \
WHERE o.oid OPERATOR(pg_catalog.>=) 16384::pg_catalog.oid) \
OR EXISTS (SELECT FROM pg_catalog.pg_type AS t \
WHERE (t.typtype OPERATOR(pg_catalog.=) 'd'::pg_catalog.\"char\") \
AND (t.oid OPERATOR(pg_catalog.>=) 16384::pg_catalog.oid))) AS catalog";

/// Whether an operator, a cast or a domain calls functions of the application's. Hardly anybody has
/// one, and it is not asked then: the rest would take a quarter longer.
pub(super) const OPERATORS: &str = "\
SELECT 'operator'::pg_catalog.text, ''::pg_catalog.text, ''::pg_catalog.text, \
''::pg_catalog.text WHERE EXISTS (SELECT FROM pg_catalog.pg_operator AS o \
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
AND (d.refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_proc'::pg_catalog.regclass))";

/// The same of the views' definitions. The server's function asks for a view with operators that it
/// looks up through the `search_path`, so it is called where that is [`OWN_PATH`] alone.
pub(super) const VIEWS: &str = "\
SELECT 'expression'::pg_catalog.text, pg_catalog.format('%I.%I', n.nspname, c.relname), \
''::pg_catalog.text, pg_catalog.pg_get_viewdef(c.oid) \
FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n \
ON n.oid OPERATOR(pg_catalog.=) c.relnamespace \
WHERE (c.relkind::pg_catalog.text OPERATOR(pg_catalog.=) 'v') \
AND NOT pg_catalog.starts_with(n.nspname::pg_catalog.text, 'pg_') \
AND n.nspname::pg_catalog.text OPERATOR(pg_catalog.<>) 'information_schema'";

pub(super) const OWN_PATH: &str = "BEGIN; SET LOCAL search_path = 'pg_catalog'";
