-- Commit of a worker: adds Parquet files and progress to the lake, all or nothing, in one round trip.
--
-- @S@ is the schema that holds the lake's metadata. The function runs with the rights of the role that created the lake, so that a worker needs no right to write to
-- DuckLake's tables. It writes the rows that DuckLake 1.0 writes for `ducklake_add_data_files` and names every column; the triggers of postgres.sql move progress.
--
-- message:
--   {"author": "ducktide-consumer", "words": "ingest", "extra": "<the message that the triggers read>", "triggers": 1, "ignore_replays": false,
--    "versions": [{"schema": "main", "table": "events", "changed_at": 7}],
--    "files": [{"schema": "main", "table": "events", "name": "events", "path": "/lake/main/events/ducktide-….parquet", "rows": 97, "bytes": 5310, "footer": 1204,
--               "partition": ["2026-11-01"], "columns": [[column_id, bytes, values, nulls, min, max, contains_nan], …]}],
--    "ducktide_commit_files": 1}
--
-- answer, "outcome" is one of:
--   committed          with "snapshot" (null for progress without rows) and "locked" (false if the commit lock was not free in time)
--   fenced             a range does not start at the progress of its partition, or a file is already registered: the caller reads progress
--   table_changed      a table was altered or dropped after the files were written
--   replay_announced   a replay of one of the sources or tables removes rows: the caller waits
--   unknown_format     with "found": DuckLake's tables have another format
--   unknown_columns    with "found": DuckLake's tables have columns that the format does not name
--   triggers_missing   with "found": number of enabled triggers
--   progress_unmoved   a trigger has no effect
--   newer_triggers     with "found": version of programs that the triggers need
--   refused            with "reason": the message can never be applied
-- Any other error is raised; nothing is applied then either.
CREATE FUNCTION @S@.ducktide_commit_files(message jsonb) RETURNS jsonb LANGUAGE plpgsql SECURITY DEFINER SET search_path = @S@, pg_temp AS $function$
DECLARE
  files CONSTANT jsonb := message->'files';
  new_files CONSTANT int := jsonb_array_length(files);
  extra CONSTANT jsonb := (message->>'extra')::jsonb;
  resolves CONSTANT boolean := extra->>'kind' IN ('retry', 'discard');
  locked boolean := true;
  attempts_left int := 20;
  actual text;
  wanted record;
  target record;
  new_snapshot bigint;
  next_file bigint;
  first_row bigint;
  is_first boolean;
  changes text;
BEGIN
  IF message->>'ducktide_commit_files' IS DISTINCT FROM '1' THEN
    RETURN jsonb_build_object('outcome', 'refused', 'reason', 'unknown version of the message');
  END IF;
  -- Each statement below sees what was committed before it began.
  IF current_setting('transaction_isolation') <> 'read committed' THEN
    RETURN jsonb_build_object('outcome', 'refused', 'reason', 'the transaction isolation is not read committed');
  END IF;

  -- The format, and the columns that it names in the tables written below. A later format gets a row for each table whose columns differ.
  actual := (SELECT value FROM ducklake_metadata WHERE key = 'version' AND scope IS NULL);
  IF actual IS DISTINCT FROM '1.0' THEN RETURN jsonb_build_object('outcome', 'unknown_format', 'found', coalesce(actual, '')); END IF;
  actual := (
    SELECT string_agg(format('%s.%s', known.name, a.attname), ', ' ORDER BY known.name, a.attnum)
      FROM (VALUES
        ('1.0', 'ducklake_snapshot', '{snapshot_id,snapshot_time,schema_version,next_catalog_id,next_file_id}'::name[]),
        ('1.0', 'ducklake_snapshot_changes', '{snapshot_id,changes_made,author,commit_message,commit_extra_info}'),
        ('1.0', 'ducklake_data_file', '{data_file_id,table_id,begin_snapshot,end_snapshot,file_order,path,path_is_relative,file_format,record_count,file_size_bytes,footer_size,row_id_start,partition_id,encryption_key,mapping_id,partial_max}'),
        ('1.0', 'ducklake_file_column_stats', '{data_file_id,table_id,column_id,column_size_bytes,value_count,null_count,min_value,max_value,contains_nan,extra_stats}'),
        ('1.0', 'ducklake_file_partition_value', '{data_file_id,table_id,partition_key_index,partition_value}'),
        ('1.0', 'ducklake_table_stats', '{table_id,record_count,next_row_id,file_size_bytes}'),
        ('1.0', 'ducklake_table_column_stats', '{table_id,column_id,contains_null,contains_nan,min_value,max_value,extra_stats}')) known(version, name, columns)
      JOIN pg_attribute a ON a.attrelid = to_regclass('@S@.' || known.name) AND a.attnum > 0 AND NOT a.attisdropped
     WHERE known.version = actual AND a.attname <> ALL (known.columns));
  IF actual IS NOT NULL THEN RETURN jsonb_build_object('outcome', 'unknown_columns', 'found', actual); END IF;

  actual := (SELECT count(*) FROM (VALUES ('ducktide_once', 'ducklake_data_file'), ('ducktide_snapshot', 'ducklake_snapshot_changes'),
                                         ('ducktide_unpack', 'ducktide_commit'), ('ducktide_advance', 'ducktide_ledger')) needed(name, on_table)
             JOIN pg_trigger t ON t.tgrelid = to_regclass('@S@.' || needed.on_table) AND t.tgname = needed.name AND t.tgenabled IN ('A', 'O'));
  IF actual <> '4' THEN RETURN jsonb_build_object('outcome', 'triggers_missing', 'found', actual::int); END IF;
  actual := (SELECT value FROM ducktide_meta WHERE key = 'oldest_compatible_triggers');
  IF actual::int > (message->>'triggers')::int THEN RETURN jsonb_build_object('outcome', 'newer_triggers', 'found', actual::int); END IF;

  -- The commit lock is for fairness: if its holder is stuck, the commit goes on without it.
  BEGIN
    PERFORM set_config('lock_timeout', '5s', true);
    PERFORM pg_advisory_xact_lock(hashtextextended('ducktide commit ' || current_database() || '.@S@', 0));
  EXCEPTION WHEN lock_not_available THEN
    locked := false;
  END;
  PERFORM set_config('lock_timeout', '15s', true);

  IF NOT (message->>'ignore_replays')::boolean AND EXISTS (
    SELECT 1 FROM ducktide_intent i
     WHERE i.kind <> 'prepare' AND i.expires_at > clock_timestamp()
       AND (i.source_id IN (SELECT (e->>'source')::int FROM jsonb_array_elements(extra->'progress') e)
            OR i.table_name IN (SELECT f->>'name' FROM jsonb_array_elements(files) f)))
  THEN RETURN jsonb_build_object('outcome', 'replay_announced'); END IF;

  LOOP
    -- A subtransaction: what it wrote is undone if it ends with an error.
    BEGIN
      IF new_files = 0 THEN
        INSERT INTO ducktide_commit(message) VALUES (message->>'extra');
      ELSE
        -- The next snapshot, taken before anything else is read: another client that wants it waits for this transaction, so that nothing read below can change.
        INSERT INTO ducklake_snapshot(snapshot_id, snapshot_time, schema_version, next_catalog_id, next_file_id)
        SELECT s.snapshot_id + 1, clock_timestamp(), s.schema_version, s.next_catalog_id, s.next_file_id + new_files
          FROM ducklake_snapshot s ORDER BY s.snapshot_id DESC LIMIT 1
        RETURNING snapshot_id, next_file_id - new_files INTO new_snapshot, next_file;
        -- Two later snapshots, the first of which expired meanwhile.
        IF new_snapshot IS DISTINCT FROM (SELECT max(snapshot_id) FROM ducklake_snapshot) THEN RAISE serialization_failure; END IF;

        FOR wanted IN SELECT v->>'schema' AS in_schema, v->>'table' AS name, (v->>'changed_at')::bigint AS changed_at FROM jsonb_array_elements(message->'versions') v LOOP
          IF NOT EXISTS (
            SELECT 1 FROM ducklake_table t JOIN ducklake_schema s ON s.schema_id = t.schema_id
             WHERE t.end_snapshot IS NULL AND s.end_snapshot IS NULL AND s.schema_name = wanted.in_schema AND t.table_name = wanted.name
               AND wanted.changed_at = greatest(
                     (SELECT greatest(max(c.begin_snapshot), max(c.end_snapshot)) FROM ducklake_column c WHERE c.table_id = t.table_id),
                     (SELECT greatest(max(p.begin_snapshot), max(p.end_snapshot)) FROM ducklake_partition_info p WHERE p.table_id = t.table_id)))
          THEN RAISE EXCEPTION USING ERRCODE = 'DT001', MESSAGE = 'table_changed'; END IF;
        END LOOP;

        changes := NULL;
        FOR target IN
          SELECT t.table_id, wanted_table.in_schema, wanted_table.name, wanted_table.rows, wanted_table.bytes, wanted_table.files, p.partition_id,
                 CASE WHEN t.path_is_relative AND s.path_is_relative THEN (SELECT value FROM ducklake_metadata WHERE key = 'data_path' AND scope IS NULL) ELSE '' END
                 || CASE WHEN t.path_is_relative THEN s.path ELSE '' END || t.path AS directory,
                 (SELECT array_agg(format('%s %s', k.transform, c.column_name) ORDER BY k.partition_key_index)
                    FROM ducklake_partition_column k JOIN ducklake_column c ON c.table_id = t.table_id AND c.column_id = k.column_id AND c.end_snapshot IS NULL
                   WHERE k.partition_id = p.partition_id) AS key
            FROM (SELECT f->>'schema' AS in_schema, f->>'table' AS name, sum((f->>'rows')::bigint)::bigint AS rows, sum((f->>'bytes')::bigint)::bigint AS bytes, count(*) AS files
                    FROM jsonb_array_elements(files) f GROUP BY 1, 2) wanted_table
            JOIN ducklake_schema s ON s.schema_name = wanted_table.in_schema AND s.end_snapshot IS NULL
            JOIN ducklake_table t ON t.schema_id = s.schema_id AND t.table_name = wanted_table.name AND t.end_snapshot IS NULL
            -- RESET PARTITIONED BY leaves a key without columns.
            LEFT JOIN ducklake_partition_info p ON p.table_id = t.table_id AND p.end_snapshot IS NULL
                 AND EXISTS (SELECT 1 FROM ducklake_partition_column k WHERE k.partition_id = p.partition_id)
           ORDER BY t.table_id
        LOOP
          IF target.partition_id IS NOT NULL AND target.key IS DISTINCT FROM ARRAY['identity event_date'] THEN
            RAISE EXCEPTION USING ERRCODE = 'DT002', MESSAGE = format('the partition key of %I.%I is not event_date', target.in_schema, target.name);
          END IF;
          IF target.partition_id IS NOT NULL AND EXISTS (
            SELECT 1 FROM jsonb_array_elements(files) f
             WHERE f->>'schema' = target.in_schema AND f->>'table' = target.name AND jsonb_array_length(f->'partition') <> 1)
          THEN RAISE EXCEPTION USING ERRCODE = 'DT002', MESSAGE = format('a file of %I.%I is not in the directory of a partition', target.in_schema, target.name); END IF;
          -- Readers find the columns of a file by these IDs: a file without the ID of a column would read as NULL.
          IF EXISTS (
            SELECT 1 FROM jsonb_array_elements(files) f
             WHERE f->>'schema' = target.in_schema AND f->>'table' = target.name
               AND (SELECT array_agg((c->>0)::bigint ORDER BY (c->>0)::bigint) FROM jsonb_array_elements(f->'columns') c) IS DISTINCT FROM
                   (SELECT array_agg(c.column_id ORDER BY c.column_id) FROM ducklake_column c
                     WHERE c.table_id = target.table_id AND c.end_snapshot IS NULL
                       AND NOT EXISTS (SELECT 1 FROM ducklake_column child
                                        WHERE child.table_id = c.table_id AND child.parent_column = c.column_id AND child.end_snapshot IS NULL)))
          THEN RAISE EXCEPTION USING ERRCODE = 'DT002', MESSAGE = format('a file does not have the columns of %I.%I', target.in_schema, target.name); END IF;

          UPDATE ducklake_table_stats SET record_count = record_count + target.rows, next_row_id = next_row_id + target.rows, file_size_bytes = file_size_bytes + target.bytes
           WHERE table_id = target.table_id RETURNING next_row_id - target.rows INTO first_row;
          is_first := NOT FOUND;
          IF is_first THEN
            first_row := 0;
            INSERT INTO ducklake_table_stats(table_id, record_count, next_row_id, file_size_bytes) VALUES (target.table_id, target.rows, target.rows, target.bytes);
          END IF;

          WITH added AS MATERIALIZED (
            SELECT f, next_file + row_number() OVER by_position - 1 AS data_file_id,
                   first_row + coalesce(sum((f->>'rows')::bigint) OVER (by_position ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), 0) AS row_id_start
              FROM jsonb_array_elements(files) WITH ORDINALITY AS listed(f, place)
             WHERE f->>'schema' = target.in_schema AND f->>'table' = target.name
            WINDOW by_position AS (ORDER BY place)
          ), data_files AS (
            INSERT INTO ducklake_data_file(data_file_id, table_id, begin_snapshot, end_snapshot, file_order, path, path_is_relative, file_format, record_count, file_size_bytes,
                                           footer_size, row_id_start, partition_id, encryption_key, mapping_id, partial_max)
            SELECT data_file_id, target.table_id, new_snapshot, NULL, NULL,
                   CASE WHEN starts_with(f->>'path', target.directory) THEN substr(f->>'path', length(target.directory) + 1) ELSE f->>'path' END,
                   starts_with(f->>'path', target.directory), 'parquet', (f->>'rows')::bigint, (f->>'bytes')::bigint,
                   (f->>'footer')::bigint, row_id_start, target.partition_id, NULL, NULL, NULL
              FROM added ORDER BY data_file_id
          ), partition_values AS (
            INSERT INTO ducklake_file_partition_value(data_file_id, table_id, partition_key_index, partition_value)
            SELECT data_file_id, target.table_id, 0, f->'partition'->>0 FROM added WHERE target.partition_id IS NOT NULL ORDER BY data_file_id
          )
          INSERT INTO ducklake_file_column_stats(data_file_id, table_id, column_id, column_size_bytes, value_count, null_count, min_value, max_value, contains_nan, extra_stats)
          SELECT data_file_id, target.table_id, (c->>0)::bigint, (c->>1)::bigint, (c->>2)::bigint, (c->>3)::bigint, c->>4, c->>5, (c->>6)::boolean, NULL
            FROM added, jsonb_array_elements(f->'columns') c ORDER BY 1, 3;

          -- Statistics of the whole table. Bounds that are not known of one file with values are not known of the table, and stay so: DuckLake would take them for the bounds
          -- of a table without values, and replace them by those of the next file, which hides the rows of the others from queries.
          WITH columns AS MATERIALIZED (
            SELECT c.column_id,
                   CASE WHEN c.column_type IN ('float32', 'float64') THEN 'float'
                        WHEN c.column_type ~ '^(u?int[0-9]+|decimal.*)$' THEN 'number'
                        WHEN c.column_type IN ('date', 'timestamp', 'timestamp_s', 'timestamp_ms', 'timestamp_ns', 'timestamptz') THEN 'time'
                        WHEN c.column_type IN ('varchar', 'json', 'uuid', 'time') THEN 'text'
                        ELSE c.column_type END AS kind
              FROM ducklake_column c WHERE c.table_id = target.table_id AND c.end_snapshot IS NULL
          ), of_files AS MATERIALIZED (
            SELECT (c->>0)::bigint AS column_id, (c->>2)::bigint AS value_count, (c->>3)::bigint AS null_count, c->>4 AS min_value, c->>5 AS max_value, (c->>6)::boolean AS contains_nan
              FROM jsonb_array_elements(files) f, jsonb_array_elements(f->'columns') c
             WHERE f->>'schema' = target.in_schema AND f->>'table' = target.name
          ), of_table AS MATERIALIZED (
            SELECT s.column_id, s.contains_null, s.contains_nan, s.min_value, s.max_value FROM ducklake_table_column_stats s WHERE s.table_id = target.table_id
          ), counted AS (
            SELECT column_id, CASE WHEN bool_and(null_count IS NOT NULL) THEN bool_or(null_count > 0) END AS contains_null,
                   CASE WHEN bool_and(contains_nan IS NOT NULL) THEN bool_or(contains_nan) END AS contains_nan,
                   bool_or(value_count IS DISTINCT FROM 0) AS has_values
              FROM of_files GROUP BY column_id
          ), bounds AS (
            SELECT column_id, min_value AS bound, true AS is_min FROM of_files WHERE value_count IS DISTINCT FROM 0
            UNION ALL SELECT column_id, max_value, false FROM of_files WHERE value_count IS DISTINCT FROM 0
            UNION ALL SELECT column_id, min_value, true FROM of_table WHERE NOT is_first
            UNION ALL SELECT column_id, max_value, false FROM of_table WHERE NOT is_first
          ), ordered AS (
            SELECT b.column_id, b.bound, b.is_min,
                   CASE c.kind WHEN 'number' THEN b.bound ~ '^-?[0-9]+(\.[0-9]+)?$'
                               WHEN 'float' THEN b.bound ~ '^-?([0-9]+(\.[0-9]+)?(e[-+]?[0-9]+)?|inf)$'
                               WHEN 'boolean' THEN b.bound IN ('false', 'true', '0', '1')
                               -- Texts of years with four digits have the order of their times.
                               WHEN 'time' THEN b.bound ~ '^[0-9]{4}-[0-9]{2}-[0-9]{2}( [0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]+)?(\+00)?)?$'
                               WHEN 'text' THEN b.bound IS NOT NULL END AS is_known,
                   CASE WHEN c.kind = 'number' AND b.bound ~ '^-?[0-9]+(\.[0-9]+)?$' THEN b.bound::numeric
                        WHEN c.kind = 'boolean' AND b.bound IN ('false', 'true', '0', '1') THEN b.bound::boolean::int END AS number,
                   CASE WHEN c.kind = 'float' AND b.bound ~ '^-?([0-9]+(\.[0-9]+)?(e[-+]?[0-9]+)?|inf)$' THEN b.bound::float8 END AS real_number
              FROM bounds b JOIN columns c ON c.column_id = b.column_id
          ), merged AS (
            SELECT column_id, bool_and(coalesce(is_known, false)) AS is_known,
                   (array_agg(bound ORDER BY number, real_number, bound COLLATE "C") FILTER (WHERE is_min))[1] AS min_value,
                   (array_agg(bound ORDER BY number DESC, real_number DESC, bound COLLATE "C" DESC) FILTER (WHERE NOT is_min))[1] AS max_value
              FROM ordered GROUP BY column_id
          ), new_stats AS MATERIALIZED (
            SELECT n.column_id, n.has_values,
                   CASE WHEN is_first THEN n.contains_null WHEN n.contains_null IS NOT NULL AND t.contains_null IS NOT NULL THEN n.contains_null OR t.contains_null END AS contains_null,
                   CASE WHEN is_first THEN n.contains_nan WHEN n.contains_nan IS NOT NULL AND t.contains_nan IS NOT NULL THEN n.contains_nan OR t.contains_nan END AS contains_nan,
                   CASE WHEN n.has_values THEN CASE WHEN m.is_known THEN m.min_value END ELSE t.min_value END AS min_value,
                   CASE WHEN n.has_values THEN CASE WHEN m.is_known THEN m.max_value END ELSE t.max_value END AS max_value
              FROM counted n LEFT JOIN merged m ON m.column_id = n.column_id LEFT JOIN of_table t ON t.column_id = n.column_id
          ), created AS (
            INSERT INTO ducklake_table_column_stats(table_id, column_id, contains_null, contains_nan, min_value, max_value, extra_stats)
            SELECT target.table_id, column_id, contains_null, contains_nan, min_value, max_value, NULL FROM new_stats WHERE is_first ORDER BY column_id
          )
          UPDATE ducklake_table_column_stats s SET contains_null = n.contains_null, contains_nan = n.contains_nan, min_value = n.min_value, max_value = n.max_value
            FROM new_stats n
           WHERE NOT is_first AND s.table_id = target.table_id AND s.column_id = n.column_id
             AND (s.contains_null, s.contains_nan, s.min_value, s.max_value) IS DISTINCT FROM (n.contains_null, n.contains_nan, n.min_value, n.max_value);

          next_file := next_file + target.files;
          changes := concat_ws(',', changes, 'inserted_into_table:' || target.table_id);
        END LOOP;
        -- A table of the files does not exist.
        IF next_file <> (SELECT next_file_id FROM ducklake_snapshot WHERE snapshot_id = new_snapshot) THEN RAISE EXCEPTION USING ERRCODE = 'DT001', MESSAGE = 'table_changed'; END IF;

        INSERT INTO ducklake_snapshot_changes(snapshot_id, changes_made, author, commit_message, commit_extra_info)
        VALUES (new_snapshot, changes, message->>'author', message->>'words', message->>'extra');
      END IF;

      -- No commit without its ledger rows and its progress, whatever became of the triggers.
      IF EXISTS (
        SELECT 1 FROM jsonb_to_recordset(extra->'progress') AS x(source int, partition int, epoch int, "from" bigint, "to" bigint)
         WHERE NOT EXISTS (SELECT 1 FROM ducktide_ledger l JOIN ducktide_progress p ON p.source_id = l.source_id AND p.partition = l.partition
                            WHERE l.source_id = x.source AND l.partition = x.partition AND l.from_offset = x."from" AND l.to_offset = x."to" AND l.epoch = x.epoch
                              AND l.kind = extra->>'kind' AND (new_snapshot IS NULL OR l.snapshot_id = new_snapshot) AND (resolves OR p.next_offset >= x."to")))
      THEN RAISE EXCEPTION USING ERRCODE = 'DT003', MESSAGE = 'progress did not move'; END IF;

      RETURN jsonb_build_object('outcome', 'committed', 'snapshot', new_snapshot, 'locked', locked);
    EXCEPTION
      -- Another client committed the snapshot first: everything is read again.
      WHEN unique_violation OR serialization_failure THEN
        new_snapshot := NULL;
        attempts_left := attempts_left - 1;
        IF attempts_left = 0 THEN RAISE; END IF;
      WHEN SQLSTATE 'DT001' THEN
        RETURN jsonb_build_object('outcome', 'table_changed');
      WHEN SQLSTATE 'DT002' THEN
        RETURN jsonb_build_object('outcome', 'refused', 'reason', SQLERRM);
      WHEN SQLSTATE 'DT003' THEN
        RETURN jsonb_build_object('outcome', 'progress_unmoved');
      WHEN raise_exception THEN
        IF SQLERRM LIKE 'ducktide fenced%' OR SQLERRM IN ('ducktide refused: file already registered', 'ducktide refused: already resolved') THEN
          RETURN jsonb_build_object('outcome', 'fenced');
        END IF;
        RETURN jsonb_build_object('outcome', 'refused', 'reason', SQLERRM);
    END;
  END LOOP;
END $function$;
-- Only workers may call it: roles that may already commit through DuckLake, and those that an operator names.
REVOKE ALL ON FUNCTION @S@.ducktide_commit_files(jsonb) FROM PUBLIC;
DO $grants$
DECLARE
  worker text;
BEGIN
  FOR worker IN
    SELECT DISTINCT CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE a.grantee::regrole::text END
      FROM pg_class c, aclexplode(c.relacl) a
     WHERE c.oid = to_regclass('@S@.ducklake_snapshot_changes') AND a.privilege_type = 'INSERT'
  LOOP
    EXECUTE format('GRANT EXECUTE ON FUNCTION @S@.ducktide_commit_files(jsonb) TO %s', worker);
  END LOOP;
END $grants$;
