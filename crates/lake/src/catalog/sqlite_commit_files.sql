-- Commit of a worker to a SQLite catalog: adds Parquet files and progress to the lake by one INSERT, all or nothing.
--
-- The message is that of the function in postgres_commit_files.sql, and the rows are the same. A message that cannot be applied raises one of:
--   ducktide fenced                  a range does not start at the progress of its partition
--   ducktide refused: ...            the message can never be applied, or a file is already registered
--   ducktide table changed           a table was altered or dropped after the files were written
--   ducktide replay announced        a replay of one of the sources or tables removes rows
--   ducktide unknown format          DuckLake's tables have another format
--   ducktide unknown columns         DuckLake's tables have columns that the format does not name
--   ducktide triggers missing        not all triggers exist
--   ducktide newer triggers          the triggers need a newer program
--   ducktide progress unmoved        a trigger has no effect

-- A mailbox: the trigger empties it, and without the trigger nothing comes in.
CREATE TABLE ducktide_commit_files(message TEXT NOT NULL CONSTRAINT ducktide_trigger_missing CHECK (0));
-- For tables with many columns.
CREATE INDEX ducktide_column ON ducklake_column(table_id, column_id);
CREATE INDEX ducktide_table_column_stats ON ducklake_table_column_stats(table_id, column_id);
-- Columns of the tables written below that the format does not name. A later format gets a row for each table whose columns differ.
CREATE VIEW ducktide_unknown_column AS
WITH known(version, name, columns) AS (VALUES
  ('1.0', 'ducklake_snapshot', ',snapshot_id,snapshot_time,schema_version,next_catalog_id,next_file_id,'),
  ('1.0', 'ducklake_snapshot_changes', ',snapshot_id,changes_made,author,commit_message,commit_extra_info,'),
  ('1.0', 'ducklake_data_file', ',data_file_id,table_id,begin_snapshot,end_snapshot,file_order,path,path_is_relative,file_format,record_count,file_size_bytes,footer_size,row_id_start,partition_id,encryption_key,mapping_id,partial_max,'),
  ('1.0', 'ducklake_file_column_stats', ',data_file_id,table_id,column_id,column_size_bytes,value_count,null_count,min_value,max_value,contains_nan,extra_stats,'),
  ('1.0', 'ducklake_file_partition_value', ',data_file_id,table_id,partition_key_index,partition_value,'),
  ('1.0', 'ducklake_table_stats', ',table_id,record_count,next_row_id,file_size_bytes,'),
  ('1.0', 'ducklake_table_column_stats', ',table_id,column_id,contains_null,contains_nan,min_value,max_value,extra_stats,'))
SELECT known.name || '.' || found.name AS name FROM known, pragma_table_info(known.name) found
 WHERE known.version = (SELECT value FROM ducklake_metadata WHERE key = 'version' AND scope IS NULL) AND instr(known.columns, ',' || found.name || ',') = 0;
-- Files of the newest snapshot, numbered from 0. The snapshot before it is never expired.
CREATE VIEW ducktide_newest_file AS
SELECT d.data_file_id, d.table_id, d.begin_snapshot, d.record_count, d.file_size_bytes, d.partition_id, d.data_file_id - before.next_file_id AS place
  FROM (SELECT next_file_id FROM ducklake_snapshot ORDER BY snapshot_id DESC LIMIT 1 OFFSET 1) before JOIN ducklake_data_file d ON d.data_file_id >= before.next_file_id;
CREATE TRIGGER ducktide_commit_files BEFORE INSERT ON ducktide_commit_files
BEGIN
  SELECT raise(ABORT, 'ducktide refused: unknown version of the message') WHERE NEW.message->>'$.ducktide_commit_files' IS NOT 1;

  -- The format, and the columns that it names in the tables written below.
  SELECT raise(ABORT, 'ducktide unknown format') WHERE (SELECT value FROM ducklake_metadata WHERE key = 'version' AND scope IS NULL) IS NOT '1.0';
  SELECT raise(ABORT, 'ducktide unknown columns') FROM ducktide_unknown_column;
  SELECT raise(ABORT, 'ducktide triggers missing')
   WHERE (SELECT count(*) FROM sqlite_master
           WHERE type = 'trigger' AND (name, tbl_name) IN (VALUES ('ducktide_once', 'ducklake_data_file'), ('ducktide_snapshot', 'ducklake_snapshot_changes'),
                                                                  ('ducktide_unpack', 'ducktide_commit'), ('ducktide_advance', 'ducktide_ledger'))) <> 4;
  SELECT raise(ABORT, 'ducktide newer triggers')
   WHERE (SELECT CAST(value AS INTEGER) FROM ducktide_meta WHERE key = 'oldest_compatible_triggers') > NEW.message->>'$.triggers';

  SELECT raise(ABORT, 'ducktide replay announced') FROM ducktide_intent i
   WHERE NOT NEW.message->>'$.ignore_replays' AND i.kind <> 'prepare' AND julianday(i.expires_at) > julianday('now')
     AND (i.source_id IN (SELECT e.value->>'$.source' FROM json_each(NEW.message->>'$.extra', '$.progress') e)
          OR i.table_name IN (SELECT f.value->>'$.name' FROM json_each(NEW.message, '$.files') f));

  SELECT raise(ABORT, 'ducktide table changed') FROM json_each(NEW.message, '$.versions') v
   WHERE NOT EXISTS (
     SELECT 1 FROM ducklake_table t JOIN ducklake_schema s ON s.schema_id = t.schema_id
      WHERE t.end_snapshot IS NULL AND s.end_snapshot IS NULL AND s.schema_name = v.value->>'$.schema' AND t.table_name = v.value->>'$.table'
        AND v.value->>'$.changed_at' = (
          SELECT max(changed_at) FROM (
            SELECT max(c.begin_snapshot, coalesce(c.end_snapshot, 0)) AS changed_at FROM ducklake_column c WHERE c.table_id = t.table_id
            UNION ALL SELECT max(p.begin_snapshot, coalesce(p.end_snapshot, 0)) FROM ducklake_partition_info p WHERE p.table_id = t.table_id)));

  -- What cannot be written: a table that does not exist, another partition key, other columns.
  SELECT raise(ABORT, 'ducktide table changed') FROM json_each(NEW.message, '$.files') f
   WHERE NOT EXISTS (SELECT 1 FROM ducklake_table t JOIN ducklake_schema s ON s.schema_id = t.schema_id
                      WHERE t.end_snapshot IS NULL AND s.end_snapshot IS NULL AND s.schema_name = f.value->>'$.schema' AND t.table_name = f.value->>'$.table');
  SELECT raise(ABORT, 'ducktide refused: the partition key of a table is not event_date, or a file is not in the directory of a partition')
    FROM (SELECT DISTINCT f.value->>'$.schema' AS in_schema, f.value->>'$.table' AS name, json_array_length(f.value, '$.partition') AS partition_values FROM json_each(NEW.message, '$.files') f) w
    JOIN ducklake_schema s ON s.schema_name = w.in_schema AND s.end_snapshot IS NULL
    JOIN ducklake_table t ON t.schema_id = s.schema_id AND t.table_name = w.name AND t.end_snapshot IS NULL
    JOIN ducklake_partition_info p ON p.table_id = t.table_id AND p.end_snapshot IS NULL
   WHERE (SELECT group_concat(k.transform || ' ' || c.column_name) FROM ducklake_partition_column k
            JOIN ducklake_column c ON c.table_id = t.table_id AND c.column_id = k.column_id AND c.end_snapshot IS NULL
           -- RESET PARTITIONED BY leaves a key without columns.
           WHERE k.partition_id = p.partition_id) <> 'identity event_date'
      OR (w.partition_values <> 1 AND EXISTS (SELECT 1 FROM ducklake_partition_column k WHERE k.partition_id = p.partition_id));
  -- Readers find the columns of a file by these IDs: a file without the ID of a column would read as NULL.
  SELECT raise(ABORT, 'ducktide refused: a file does not have the columns of its table')
    FROM json_each(NEW.message, '$.files') f
    JOIN ducklake_schema s ON s.schema_name = f.value->>'$.schema' AND s.end_snapshot IS NULL
    JOIN ducklake_table t ON t.schema_id = s.schema_id AND t.table_name = f.value->>'$.table' AND t.end_snapshot IS NULL
   WHERE (SELECT group_concat(id) FROM (SELECT c.value->>0 AS id FROM json_each(f.value, '$.columns') c ORDER BY 1))
         IS NOT
         (SELECT group_concat(id) FROM (
            SELECT c.column_id AS id FROM ducklake_column c WHERE c.table_id = t.table_id AND c.end_snapshot IS NULL
            EXCEPT SELECT child.parent_column FROM ducklake_column child WHERE child.table_id = t.table_id AND child.end_snapshot IS NULL ORDER BY 1));

  INSERT INTO ducklake_snapshot(snapshot_id, snapshot_time, schema_version, next_catalog_id, next_file_id)
  SELECT s.snapshot_id + 1, strftime('%Y-%m-%d %H:%M:%f+00'), s.schema_version, s.next_catalog_id, s.next_file_id + json_array_length(NEW.message, '$.files')
    FROM ducklake_snapshot s WHERE json_array_length(NEW.message, '$.files') > 0 ORDER BY s.snapshot_id DESC LIMIT 1;
  -- The files, numbered in the order of the message.
  INSERT INTO ducklake_data_file(data_file_id, table_id, begin_snapshot, end_snapshot, file_order, path, path_is_relative, file_format, record_count, file_size_bytes,
                                 footer_size, row_id_start, partition_id, encryption_key, mapping_id, partial_max)
  WITH newest AS (
    SELECT snapshot_id, next_file_id - json_array_length(NEW.message, '$.files') AS first_file FROM ducklake_snapshot ORDER BY snapshot_id DESC LIMIT 1
  ), added AS (
    SELECT f.key, f.value->>'$.path' AS path, f.value->>'$.rows' AS rows, f.value->>'$.bytes' AS bytes, f.value->>'$.footer' AS footer, t.table_id,
           iif(t.path_is_relative AND s.path_is_relative, (SELECT value FROM ducklake_metadata WHERE key = 'data_path' AND scope IS NULL), '')
           || iif(t.path_is_relative, s.path, '') || t.path AS directory,
           (SELECT p.partition_id FROM ducklake_partition_info p
             WHERE p.table_id = t.table_id AND p.end_snapshot IS NULL
               AND EXISTS (SELECT 1 FROM ducklake_partition_column k WHERE k.partition_id = p.partition_id)) AS partition_id
      FROM json_each(NEW.message, '$.files') f
      JOIN ducklake_schema s ON s.schema_name = f.value->>'$.schema' AND s.end_snapshot IS NULL
      JOIN ducklake_table t ON t.schema_id = s.schema_id AND t.table_name = f.value->>'$.table' AND t.end_snapshot IS NULL
  )
  SELECT newest.first_file + a.key, a.table_id, newest.snapshot_id, NULL, NULL, iif(substr(a.path, 1, length(a.directory)) = a.directory, substr(a.path, length(a.directory) + 1), a.path),
         substr(a.path, 1, length(a.directory)) = a.directory, 'parquet', a.rows, a.bytes, a.footer,
         coalesce((SELECT next_row_id FROM ducklake_table_stats n WHERE n.table_id = a.table_id), 0)
         + coalesce(sum(a.rows) OVER (PARTITION BY a.table_id ORDER BY a.key ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), 0),
         a.partition_id, NULL, NULL, NULL
    FROM added a, newest ORDER BY a.key;
  INSERT INTO ducklake_file_partition_value(data_file_id, table_id, partition_key_index, partition_value)
  SELECT d.data_file_id, d.table_id, 0, f.value->>'$.partition[0]'
    FROM json_each(NEW.message, '$.files') f
    JOIN ducktide_newest_file d ON d.place = f.key
   WHERE d.partition_id IS NOT NULL;
  INSERT INTO ducklake_file_column_stats(data_file_id, table_id, column_id, column_size_bytes, value_count, null_count, min_value, max_value, contains_nan, extra_stats)
  SELECT d.data_file_id, d.table_id, c.value->>0, c.value->>1, c.value->>2, c.value->>3, c.value->>4, c.value->>5, c.value->>6, NULL
    FROM json_each(NEW.message, '$.files') f
    JOIN ducktide_newest_file d ON d.place = f.key,
         json_each(f.value, '$.columns') c
   ORDER BY 1, 3;

  -- Statistics of whole tables. Bounds that are not known of one file with values are not known of the table, and stay so: DuckLake would take them for the bounds of a table
  -- without values, and replace them by those of the next file, which hides the rows of the others from queries.
  INSERT INTO ducklake_table_column_stats(table_id, column_id, contains_null, contains_nan, min_value, max_value, extra_stats)
  SELECT DISTINCT d.table_id, c.value->>0, NULL, NULL, NULL, NULL, NULL
    FROM json_each(NEW.message, '$.files') f
    JOIN ducktide_newest_file d ON d.place = f.key,
         json_each(f.value, '$.columns') c
   WHERE NOT EXISTS (SELECT 1 FROM ducklake_table_stats n WHERE n.table_id = d.table_id) ORDER BY 1, 2;
  UPDATE ducklake_table_column_stats
     SET contains_null = iif(n.is_first, n.contains_null, n.contains_null | ducklake_table_column_stats.contains_null),
         contains_nan = iif(n.is_first, n.contains_nan, n.contains_nan | ducklake_table_column_stats.contains_nan),
         min_value = iif(n.has_values, iif(n.is_known, n.min_value, NULL), ducklake_table_column_stats.min_value),
         max_value = iif(n.has_values, iif(n.is_known, n.max_value, NULL), ducklake_table_column_stats.max_value)
    FROM (
      WITH of_files AS MATERIALIZED (
        SELECT d.table_id, CAST(c.value->>0 AS INTEGER) AS column_id, c.value->>2 AS value_count, c.value->>3 AS null_count, c.value->>4 AS min_value, c.value->>5 AS max_value, c.value->>6 AS contains_nan
          FROM json_each(NEW.message, '$.files') f
          JOIN ducktide_newest_file d ON d.place = f.key,
               json_each(f.value, '$.columns') c
      ), bounds AS (
        SELECT table_id, column_id, min_value AS bound, 1 AS is_min FROM of_files WHERE value_count IS NOT 0
        UNION ALL SELECT table_id, column_id, max_value, 0 FROM of_files WHERE value_count IS NOT 0
        -- The rows of a table without commits were inserted above.
        UNION ALL SELECT t.table_id, t.column_id, t.min_value, 1 FROM ducklake_table_column_stats t JOIN ducklake_table_stats e ON e.table_id = t.table_id
                   WHERE t.table_id IN (SELECT table_id FROM of_files)
        UNION ALL SELECT t.table_id, t.column_id, t.max_value, 0 FROM ducklake_table_column_stats t JOIN ducklake_table_stats e ON e.table_id = t.table_id
                   WHERE t.table_id IN (SELECT table_id FROM of_files)
        -- LIMIT keeps SQLite from flattening the query, which would read the message once for each column.
        LIMIT -1
      ), typed AS (
        SELECT b.table_id, b.column_id, b.bound, b.is_min,
               CASE WHEN c.column_type IN ('float32', 'float64') THEN 'float'
                    WHEN c.column_type GLOB 'int[0-9]*' OR c.column_type GLOB 'uint[0-9]*' OR c.column_type GLOB 'decimal*' THEN 'number'
                    WHEN c.column_type IN ('date', 'timestamp', 'timestamp_s', 'timestamp_ms', 'timestamp_ns', 'timestamptz') THEN 'time'
                    WHEN c.column_type IN ('varchar', 'json', 'uuid', 'time') THEN 'text'
                    ELSE c.column_type END AS kind
          FROM bounds b JOIN ducklake_column c ON c.table_id = b.table_id AND c.column_id = b.column_id AND c.end_snapshot IS NULL
         LIMIT -1
      ), known AS (
        SELECT *, CASE kind WHEN 'number' THEN bound GLOB '*[0-9]' AND ltrim(bound, '-') NOT GLOB '*[^0-9.]*'
                            WHEN 'float' THEN bound IN ('inf', '-inf') OR bound GLOB '*[0-9]' AND bound NOT GLOB '*[^-+.e0-9]*'
                            WHEN 'boolean' THEN bound IN ('false', 'true', '0', '1')
                            -- Texts of years with four digits have the order of their times.
                            WHEN 'time' THEN bound GLOB '[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9]*' AND bound NOT GLOB '*[^-+.: 0-9]*'
                            WHEN 'text' THEN bound IS NOT NULL END AS is_known
          FROM typed
      ), digits AS (
        -- A number's digits, all of one column with the same number of decimals.
        SELECT *, iif(bound LIKE '-%', -1, 1) AS sign, iif(kind = 'number' AND is_known, substr(printf('%042d', 0) || replace(ltrim(bound, '-'), '.', ''), -42), '') AS padded FROM known
      ), ordered AS (
        SELECT *, CASE WHEN kind = 'float' AND bound LIKE '%inf' THEN sign * 9e999 WHEN kind = 'float' THEN CAST(bound AS REAL)
                       WHEN kind = 'boolean' THEN bound IN ('true', '1') WHEN kind = 'number' THEN sign * CAST(substr(padded, 1, 14) AS INTEGER) END AS first_key,
                  sign * CAST(substr(padded, 15, 14) AS INTEGER) AS second_key, sign * CAST(substr(padded, 29, 14) AS INTEGER) AS third_key
          FROM digits
      ), ranked AS (
        SELECT *, iif(is_min, row_number() OVER (PARTITION BY table_id, column_id, is_min ORDER BY first_key, second_key, third_key, bound),
                              row_number() OVER (PARTITION BY table_id, column_id, is_min ORDER BY first_key DESC, second_key DESC, third_key DESC, bound DESC)) AS place
          FROM ordered
      ), of_columns AS (
        SELECT table_id, column_id, iif(min(null_count IS NOT NULL), max(null_count > 0), NULL) AS contains_null, iif(min(contains_nan IS NOT NULL), max(contains_nan), NULL) AS contains_nan,
               max(value_count IS NOT 0) AS has_values, NULL AS is_known, NULL AS min_value, NULL AS max_value
          FROM of_files GROUP BY 1, 2
        UNION ALL
        SELECT table_id, column_id, NULL, NULL, NULL, min(coalesce(is_known, 0)), max(iif(is_min AND place = 1, bound, NULL)), max(iif(NOT is_min AND place = 1, bound, NULL))
          FROM ranked GROUP BY 1, 2
      )
      SELECT o.table_id, o.column_id, NOT EXISTS (SELECT 1 FROM ducklake_table_stats e WHERE e.table_id = o.table_id) AS is_first, max(o.contains_null) AS contains_null,
             max(o.contains_nan) AS contains_nan, max(o.has_values) AS has_values, max(o.is_known) AS is_known, max(o.min_value) AS min_value, max(o.max_value) AS max_value
        FROM of_columns o GROUP BY 1, 2
    ) n
   WHERE ducklake_table_column_stats.table_id = n.table_id AND ducklake_table_column_stats.column_id = n.column_id AND n.has_values IS NOT NULL;

  INSERT INTO ducklake_table_stats(table_id, record_count, next_row_id, file_size_bytes)
  SELECT DISTINCT d.table_id, 0, 0, 0
    FROM json_each(NEW.message, '$.files') f
    JOIN ducktide_newest_file d ON d.place = f.key
   WHERE NOT EXISTS (SELECT 1 FROM ducklake_table_stats n WHERE n.table_id = d.table_id);
  UPDATE ducklake_table_stats SET record_count = record_count + n.rows, next_row_id = next_row_id + n.rows, file_size_bytes = file_size_bytes + n.bytes
    FROM (SELECT d.table_id, sum(d.record_count) AS rows, sum(d.file_size_bytes) AS bytes
            FROM json_each(NEW.message, '$.files') f
            JOIN ducktide_newest_file d ON d.place = f.key
           GROUP BY 1) n
   WHERE ducklake_table_stats.table_id = n.table_id;

  -- Fires the triggers that move progress; progress without rows has no snapshot.
  INSERT INTO ducklake_snapshot_changes(snapshot_id, changes_made, author, commit_message, commit_extra_info)
  SELECT begin_snapshot, group_concat('inserted_into_table:' || table_id), NEW.message->>'$.author', NEW.message->>'$.words', NEW.message->>'$.extra'
    FROM (SELECT DISTINCT d.begin_snapshot, d.table_id FROM json_each(NEW.message, '$.files') f JOIN ducktide_newest_file d ON d.place = f.key ORDER BY d.table_id) GROUP BY begin_snapshot;
  INSERT INTO ducktide_commit(message) SELECT NEW.message->>'$.extra' WHERE json_array_length(NEW.message, '$.files') = 0;

  -- No commit without its ledger rows and its progress, whatever became of the triggers.
  SELECT raise(ABORT, 'ducktide progress unmoved') FROM json_each(NEW.message->>'$.extra', '$.progress') e
   WHERE NOT EXISTS (SELECT 1 FROM ducktide_ledger l JOIN ducktide_progress p ON p.source_id = l.source_id AND p.partition = l.partition
                      WHERE l.source_id = e.value->>'$.source' AND l.partition = e.value->>'$.partition' AND l.from_offset = e.value->>'$.from' AND l.to_offset = e.value->>'$.to'
                        AND l.epoch = e.value->>'$.epoch' AND l.kind = NEW.message->>'$.extra'->>'$.kind'
                        AND (json_array_length(NEW.message, '$.files') = 0 OR l.snapshot_id = (SELECT max(snapshot_id) FROM ducklake_snapshot))
                        AND (l.kind IN ('retry', 'discard') OR p.next_offset >= e.value->>'$.to'));
  SELECT raise(IGNORE);
END;
