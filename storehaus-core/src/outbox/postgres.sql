-- The outbox of StoreHaus, version 1, for PostgreSQL 13 and later: a table in which triggers record, within the
-- transaction of the change, which rows of other tables were changed.
--
-- Run it in the schema that is to hold the outbox, which is the first of search_path, as the role that is to own it.
-- Then, for each table, name the global prefix of the cache, the table, and the columns of the key in the order of the
-- model's fields:
--
--     SELECT storehaus_outbox_add('myapp', 'users', '{id}');
--
-- and to end it: SELECT storehaus_outbox_remove('myapp', 'users');

CREATE TABLE IF NOT EXISTS storehaus_outbox (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    -- The global prefix of the cache.
    cache text NOT NULL,
    -- The table whose row was changed, with its schema.
    relation text NOT NULL,
    -- The parts of the row's key as text; NULL stands for every row.
    key text[],
    recorded_at timestamptz NOT NULL DEFAULT clock_timestamp()
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000, autovacuum_vacuum_insert_threshold = -1);

COMMENT ON TABLE storehaus_outbox IS 'StoreHaus outbox, version 1';

-- The functions name the outbox with its schema, as they run with a search_path in which nobody can put anything.
DO $install$
DECLARE
    source text := $source$

-- A table as the outbox names it.
CREATE OR REPLACE FUNCTION @outbox@_name(target regclass) RETURNS text
LANGUAGE sql STABLE STRICT SET search_path = pg_catalog, pg_temp AS $body$
    SELECT format('%I.%I', n.nspname, c.relname)
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = target
$body$;

-- The triggers that record the changes of a table. A statement trigger sees the rows of its statement at once, but
-- fires only for the table that the statement names: of a table with partitions, parents or children, rows are recorded
-- one by one. The row trigger of a partitioned table is also one of each partition, those to come included.
--
-- The trigger for TRUNCATE on the table itself, whose name no other table's recording can have, tells which function
-- records its changes.
CREATE OR REPLACE FUNCTION @outbox@_triggers(cache text, target regclass)
RETURNS TABLE (relation regclass, name text, definition text, is_mark boolean)
LANGUAGE sql STABLE STRICT SET search_path = pg_catalog, pg_temp AS $body$
    WITH RECURSIVE part (relation) AS (
        SELECT target::oid
        UNION
        SELECT i.inhrelid FROM pg_inherits i JOIN part p ON p.relation = i.inhparent
    ), shape AS (
        SELECT c.relkind = 'p' AS partitioned,
               c.relkind = 'p' OR EXISTS (SELECT FROM pg_inherits i WHERE c.oid IN (i.inhrelid, i.inhparent)) AS by_row,
               CASE WHEN length(cache) <= 32 THEN cache ELSE left(cache, 23) || '_' || left(md5(cache), 8) END AS tag,
               left(md5(@outbox@_name(target)), 8) AS hash
        FROM pg_class c WHERE c.oid = target
    )
    SELECT p.relation::regclass,
           CASE WHEN p.relation = target AND NOT (s.partitioned AND e.suffix = 'row')
                THEN format('storehaus_%s_%s', s.tag, e.suffix)
                ELSE format('storehaus_%s_%s_%s', s.tag, s.hash, e.suffix) END,
           format(e.definition, p.relation::regclass),
           p.relation = target AND e.suffix = 'truncate'
    FROM part p
    JOIN pg_class c ON c.oid = p.relation AND c.relkind IN ('r', 'p')
    CROSS JOIN shape s
    JOIN (VALUES
        ('insert', false, 'AFTER INSERT ON %s REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT'),
        ('update', false,
         'AFTER UPDATE ON %s REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows FOR EACH STATEMENT'),
        ('delete', false, 'AFTER DELETE ON %s REFERENCING OLD TABLE AS old_rows FOR EACH STATEMENT'),
        ('row', true, 'AFTER INSERT OR UPDATE OR DELETE ON %s FOR EACH ROW'),
        ('truncate', NULL, 'AFTER TRUNCATE ON %s FOR EACH STATEMENT')
    ) e (suffix, by_row, definition)
      ON e.by_row IS NULL OR e.by_row = s.by_row AND NOT (s.by_row AND s.partitioned AND p.relation <> target)
$body$;

-- The function that records the changes of a table: its body. A part of a key becomes text by its type's own output,
-- as no cast, operator or collation of somebody else's making is to run with the rights of the outbox' owner.
CREATE OR REPLACE FUNCTION @outbox@_body(cache text, target regclass, key text[]) RETURNS text
LANGUAGE sql STABLE STRICT SET search_path = pg_catalog, pg_temp AS $body$
    SELECT format($plpgsql$
DECLARE
    old_key text[];
    new_key text[];
BEGIN
    IF TG_OP = 'TRUNCATE' THEN
        INSERT INTO %1$s (cache, relation) VALUES (%2$L, %3$L);
    ELSIF TG_LEVEL = 'ROW' THEN
        IF TG_OP <> 'INSERT' THEN
            old_key := ARRAY[%5$s];
            INSERT INTO %1$s (cache, relation, key) VALUES (%2$L, %3$L, old_key);
        END IF;
        IF TG_OP <> 'DELETE' THEN
            new_key := ARRAY[%6$s];
            IF new_key IS DISTINCT FROM old_key THEN
                INSERT INTO %1$s (cache, relation, key) VALUES (%2$L, %3$L, new_key);
            END IF;
        END IF;
    ELSIF TG_OP = 'INSERT' THEN
        INSERT INTO %1$s (cache, relation, key) SELECT %2$L, %3$L, ARRAY[%4$s] FROM new_rows r;
    ELSIF TG_OP = 'DELETE' THEN
        INSERT INTO %1$s (cache, relation, key) SELECT %2$L, %3$L, ARRAY[%4$s] FROM old_rows r;
    ELSE
        INSERT INTO %1$s (cache, relation, key)
        SELECT %2$L, %3$L, ARRAY[%4$s] FROM old_rows r UNION SELECT %2$L, %3$L, ARRAY[%4$s] FROM new_rows r;
    END IF;
    RETURN NULL;
END
$plpgsql$,
        '@literal@', cache, @outbox@_name(target),
        string_agg(format('concat(r.%I) COLLATE "C"', k.part), ', ' ORDER BY k.n),
        string_agg(format('concat(OLD.%I) COLLATE "C"', k.part), ', ' ORDER BY k.n),
        string_agg(format('concat(NEW.%I) COLLATE "C"', k.part), ', ' ORDER BY k.n))
    FROM unnest(key) WITH ORDINALITY k (part, n)
$body$;

-- Whether every change of a table is recorded.
CREATE OR REPLACE FUNCTION @outbox@_has(cache text, target regclass, key text[]) RETURNS boolean
LANGUAGE sql STABLE STRICT SET search_path = pg_catalog, pg_temp AS $body$
    SELECT NOT EXISTS (
        SELECT FROM @outbox@_triggers(cache, target) w
        WHERE NOT EXISTS (
            SELECT FROM pg_trigger t JOIN pg_proc f ON f.oid = t.tgfoid
            WHERE t.tgrelid = w.relation AND t.tgname = w.name AND t.tgenabled IN ('O', 'A')
              AND f.prosrc = @outbox@_body(cache, target, key)
        )
    )
$body$;

-- Ends the recording of a table's changes; whether there was any.
CREATE OR REPLACE FUNCTION @outbox@_remove(cache text, target regclass) RETURNS boolean
LANGUAGE plpgsql STRICT SET search_path = pg_catalog, pg_temp AS $body$
DECLARE
    recorder regprocedure;
BEGIN
    SELECT t.tgfoid INTO recorder
    FROM @outbox@_triggers(cache, target) w JOIN pg_trigger t ON t.tgrelid = w.relation AND t.tgname = w.name
    WHERE w.is_mark;
    IF recorder IS NULL THEN
        RETURN false;
    END IF;
    -- And its triggers.
    EXECUTE format('DROP FUNCTION %s CASCADE', recorder);
    RETURN true;
END
$body$;

-- Records every change of a table from now on; whether it was not so before. Where nothing is to be done, takes no lock.
-- After a change of the table's name, of its key or of its children, call it again.
CREATE OR REPLACE FUNCTION @outbox@_add(cache text, target regclass, key text[]) RETURNS boolean
LANGUAGE plpgsql STRICT SET search_path = pg_catalog, pg_temp AS $body$
DECLARE
    recorder text;
    missing text;
    wanted record;
BEGIN
    IF NOT EXISTS (SELECT FROM pg_class c WHERE c.oid = target AND c.relkind IN ('r', 'p')) THEN
        RAISE EXCEPTION '% is not a table of this database: its changes cannot be recorded', target
            USING ERRCODE = 'undefined_table';
    END IF;
    IF @outbox@_has(cache, target, key) THEN
        RETURN false;
    END IF;
    SELECT k INTO missing FROM unnest(key) k WHERE NOT EXISTS (
        SELECT FROM pg_attribute a WHERE a.attrelid = target AND a.attname = k AND a.attnum > 0 AND NOT a.attisdropped
    );
    IF missing IS NOT NULL OR cardinality(key) = 0 THEN
        RAISE EXCEPTION 'table % has no column % for a part of the key', target, missing
            USING ERRCODE = 'undefined_column';
    END IF;
    -- Kept, unless it records something else, or by triggers that are not wanted (any more).
    SELECT t.tgfoid::regproc INTO recorder
    FROM @outbox@_triggers(cache, target) w
    JOIN pg_trigger t ON t.tgrelid = w.relation AND t.tgname = w.name
    JOIN pg_proc f ON f.oid = t.tgfoid
    WHERE w.is_mark AND f.prosrc = @outbox@_body(cache, target, key) AND NOT EXISTS (
        SELECT FROM pg_trigger other
        WHERE other.tgfoid = t.tgfoid AND other.tgparentid = 0 AND (
            other.tgenabled NOT IN ('O', 'A') OR NOT EXISTS (
                SELECT FROM @outbox@_triggers(cache, target) o
                WHERE o.relation = other.tgrelid AND o.name = other.tgname
            )
        )
    );
    IF recorder IS NULL THEN
        PERFORM @outbox@_remove(cache, target);
        recorder := '@literal@' || '_' || replace(gen_random_uuid()::text, '-', '');
        EXECUTE format(
            'CREATE FUNCTION %s() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER '
            'SET search_path = pg_catalog, pg_temp AS %L',
            recorder, @outbox@_body(cache, target, key));
        EXECUTE format('REVOKE ALL ON FUNCTION %s() FROM PUBLIC', recorder);
        EXECUTE format('COMMENT ON FUNCTION %s() IS %L', recorder,
                       format('records changes of %s for the cache %s', target, cache));
    END IF;
    FOR wanted IN
        SELECT * FROM @outbox@_triggers(cache, target) w
        WHERE NOT EXISTS (SELECT FROM pg_trigger t WHERE t.tgrelid = w.relation AND t.tgname = w.name)
    LOOP
        EXECUTE format('CREATE TRIGGER %I %s EXECUTE FUNCTION %s()', wanted.name, wanted.definition, recorder);
    END LOOP;
    RETURN true;
END
$body$;

$source$;
    outbox text := quote_ident(current_schema()) || '.storehaus_outbox';
BEGIN
    source := replace(source, quote_literal('@literal@'), quote_literal(outbox));
    EXECUTE replace(source, '@outbox@', outbox);
END
$install$;
