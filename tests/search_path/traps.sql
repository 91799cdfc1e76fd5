-- For each function, aggregate, operator, view and type of `pg_catalog`, one in `hostile` that has
-- its name, notes that it is used, and then does the same. So a session in which one of them is
-- taken for the other goes on as if nothing had happened.
--
-- Where `pg_catalog` has a type that stands for many, such as "any" or anyarray, there is one for
-- each of some real types besides, which PostgreSQL takes for the better match.

CREATE SCHEMA hostile;
CREATE SCHEMA trap;
SET check_function_bodies = off;

-- A file keeps what a rollback takes back from a table.
CREATE FUNCTION trap.note(what text) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE pg_catalog.format('COPY (SELECT %L) TO PROGRAM ''cat >> traps''', what);
    RETURN true;
END $$;

-- A type's name, where it is one of those that stand for many with a real one in its place.
CREATE FUNCTION trap.name(type oid, element text) RETURNS text LANGUAGE sql AS $$
    SELECT CASE
        WHEN element IS NULL THEN format_type(type, NULL)
        WHEN format_type(type, NULL) ~ '^any(compatible)?array$' THEN element || '[]'
        WHEN format_type(type, NULL) ~ '^("any"|any(compatible)?(element|nonarray)?)$' THEN element
        ELSE format_type(type, NULL)
    END
$$;

-- A list of types.
CREATE FUNCTION trap.names(types oid[], element text) RETURNS text LANGUAGE sql AS $$
    SELECT coalesce(string_agg(trap.name(type, element), ', ' ORDER BY n), '')
    FROM unnest(types) WITH ORDINALITY AS each(type, n)
$$;

-- The real types that stand in for those that stand for many; NULL is the original.
CREATE FUNCTION trap.elements(types oid[]) RETURNS SETOF text LANGUAGE plpgsql AS $$
BEGIN
    IF '"any"'::regtype <> ALL (types) THEN
        RETURN NEXT NULL;
    END IF;
    IF trap.names(types, NULL) ~ '("any"|any(compatible)?(element|nonarray|array)?)(,|$)' THEN
        RETURN QUERY SELECT unnest('{boolean,integer,bigint,text,name,oid}'::text[]);
    END IF;
END $$;

-- Makes one, if it can be made.
CREATE FUNCTION trap.make(statement text) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE statement;
    RETURN true;
EXCEPTION WHEN OTHERS THEN
    RETURN false;
END $$;

-- A function of this name that notes it, and runs this.
CREATE FUNCTION trap.define(name text, arguments text, result text, what text, body text)
RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    RETURN trap.make(format(
        'CREATE FUNCTION %s(%s) RETURNS %s LANGUAGE plpgsql AS %L',
        name, arguments, result, format('BEGIN PERFORM trap.note(%L); %s; END', what, body)
    ));
END $$;

DO $$
DECLARE
    it record;
    element text;
    types text;
    what text;
    state text;
BEGIN
    -- Functions.
    FOR it IN
        SELECT oid, proname, proargtypes::oid[] AS types, prorettype, proretset, provariadic,
            proargmodes && '{o,b,t}' AS has_out, pronargs
        FROM pg_proc WHERE pronamespace = 'pg_catalog'::regnamespace AND prokind = 'f'
        AND NOT 'internal'::regtype = ANY (proargtypes) AND NOT 'cstring'::regtype = ANY (proargtypes)
    LOOP
        FOR element IN SELECT * FROM trap.elements(it.types) LOOP
            types := CASE
                WHEN element IS NULL THEN pg_get_function_arguments(it.oid)
                WHEN it.provariadic = 0 THEN trap.names(it.types, element)
                WHEN it.pronargs = 1 THEN 'VARIADIC ' || element || '[]'
                ELSE trap.names(it.types[0:it.pronargs - 2], element) || ', VARIADIC ' || element || '[]'
            END;
            what := format('%s(%s)', it.proname, trap.names(it.types, element));
            PERFORM trap.define(
                format('hostile.%I', it.proname), types,
                CASE WHEN element IS NULL THEN pg_get_function_result(it.oid)
                    ELSE CASE WHEN it.proretset THEN 'SETOF ' ELSE '' END
                        || trap.name(it.prorettype, element) END,
                what,
                CASE WHEN it.proretset THEN 'RETURN QUERY SELECT * FROM '
                    WHEN it.has_out THEN 'RETURN; PERFORM '
                    WHEN it.prorettype = 'void'::regtype THEN 'PERFORM '
                    ELSE 'RETURN ' END
                || format('pg_catalog.%I(%s)', it.proname, (
                    SELECT string_agg(
                        CASE WHEN n = it.pronargs AND it.provariadic <> 0 THEN 'VARIADIC ' ELSE '' END
                        || '$' || n, ', ' ORDER BY n)
                    FROM generate_series(1, it.pronargs) AS n
                ))
            );
        END LOOP;
    END LOOP;

    -- Aggregates. One with a state that is no value is NULL instead of doing the same.
    FOR it IN
        SELECT p.oid, proname, proargtypes::oid[] AS types, prorettype, aggtranstype, agginitval,
            format('pg_catalog.%s', aggtransfn) AS step,
            aggfinalfn = 0 AND aggtranstype <> 'internal'::regtype AS has_value
        FROM pg_aggregate JOIN pg_proc AS p ON p.oid = aggfnoid WHERE aggkind = 'n'
    LOOP
        FOR element IN SELECT * FROM trap.elements(it.types) LOOP
            types := coalesce(nullif(trap.names(it.types, element), ''), '*');
            what := format('%s(%s)', it.proname, types);
            state := trap.name(it.aggtranstype, element);
            IF NOT it.has_value THEN
                state := 'boolean';
                it.step := format('trap.%I', what || ' step');
                PERFORM trap.define(it.step, 'boolean, ' || types, state, what, 'RETURN true');
            END IF;
            PERFORM trap.define(
                format('trap.%I', what), state, trap.name(it.prorettype, element), what,
                CASE WHEN it.has_value THEN 'RETURN $1' ELSE 'RETURN NULL' END
            );
            PERFORM trap.make(format(
                'CREATE AGGREGATE hostile.%I(%s) (SFUNC = %s, STYPE = %s, FINALFUNC = trap.%I%s)',
                it.proname, types, it.step, state, what,
                ', INITCOND = ' || quote_literal(it.agginitval)
            ));
        END LOOP;
    END LOOP;

    -- Operators.
    FOR it IN
        SELECT oprname, oprresult, oprleft, oprright FROM pg_operator
        WHERE oprnamespace = 'pg_catalog'::regnamespace AND oprcode <> 0 AND oprright <> 0
    LOOP
        FOR element IN SELECT * FROM trap.elements(ARRAY[it.oprleft, it.oprright]) LOOP
            types := trap.names(array_remove(ARRAY[it.oprleft, it.oprright], 0::oid), element);
            what := format('%s(%s)', it.oprname, types);
            PERFORM trap.define(
                format('trap.%I', what), types, trap.name(it.oprresult, element), what,
                CASE WHEN it.oprleft = 0 THEN format('RETURN OPERATOR(pg_catalog.%s) $1', it.oprname)
                    ELSE format('RETURN $1 OPERATOR(pg_catalog.%s) $2', it.oprname) END
            );
            PERFORM trap.make(format(
                'CREATE OPERATOR hostile.%s (FUNCTION = trap.%I%s, RIGHTARG = %s)',
                it.oprname, what, ', LEFTARG = ' || trap.name(nullif(it.oprleft, 0), element),
                trap.name(it.oprright, element)
            ));
        END LOOP;
    END LOOP;

    -- Tables and views.
    FOR it IN
        -- A view can't have a column of any type of array, as pg_attribute does.
        SELECT relname, (
            SELECT string_agg(quote_ident(attname), ', ' ORDER BY attnum) FROM pg_attribute
            WHERE attrelid = pg_class.oid AND attnum > 0 AND atttypid <> 'anyarray'::regtype
        ) AS columns FROM pg_class
        WHERE relnamespace = 'pg_catalog'::regnamespace AND relkind IN ('r', 'v')
    LOOP
        PERFORM trap.define(
            format('trap.%I', it.relname), '', format('SETOF pg_catalog.%I', it.relname),
            it.relname, format('RETURN QUERY SELECT * FROM pg_catalog.%I', it.relname)
        );
        PERFORM trap.make(format(
            'CREATE VIEW hostile.%I AS SELECT %s FROM trap.%I()',
            it.relname, it.columns, it.relname
        ));
    END LOOP;

    -- Types.
    FOR it IN
        SELECT typname FROM pg_type WHERE typnamespace = 'pg_catalog'::regnamespace
        AND typtype = 'b' AND typcategory <> 'A'
    LOOP
        PERFORM trap.make(format(
            'CREATE DOMAIN hostile.%I AS pg_catalog.%I CHECK (trap.note(%L))',
            it.typname, it.typname, 'type ' || it.typname
        ));
    END LOOP;
END $$;
