-- Roles of the lake in schema @SCHEMA@, for the role that owns its tables: psql --file THIS_FILE
-- Can be run again, for example after an upgrade. Programs log in as members:
--   CREATE ROLE ingest LOGIN PASSWORD '...' IN ROLE @PREFIX@_worker;
--
-- No role owns a table, so none can drop or disable a trigger; no role can write progress, and only
-- triggers add rows to the ledger.
\set ON_ERROR_STOP on
BEGIN;

DO $$
DECLARE role text;
BEGIN
  FOREACH role IN ARRAY ARRAY['@PREFIX@_reader', '@PREFIX@_operator', '@PREFIX@_compactor', '@PREFIX@_worker'] LOOP
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = role) THEN EXECUTE format('CREATE ROLE %I NOLOGIN', role); END IF;
    EXECUTE format('GRANT CONNECT ON DATABASE %I TO %I', current_database(), role);
    EXECUTE format('GRANT USAGE ON SCHEMA @SCHEMA@ TO %I', role);
    EXECUTE format('REVOKE ALL ON ALL TABLES IN SCHEMA @SCHEMA@ FROM %I', role);
    EXECUTE format('GRANT SELECT ON ALL TABLES IN SCHEMA @SCHEMA@ TO %I', role);
    -- Tables that the owner adds later.
    EXECUTE format('ALTER DEFAULT PRIVILEGES IN SCHEMA @SCHEMA@ GRANT SELECT ON TABLES TO %I', role);
  END LOOP;
END $$;

-- The functions of the triggers run with the rights of the owner: no other role may put objects where
-- they look for tables.
REVOKE CREATE ON SCHEMA @SCHEMA@ FROM PUBLIC;

-- Reader: queries, `status`, `verify`. It may read everything and write nothing.

-- Tables of DuckLake. Triggers check the files that are added. A worker adds tables and columns, and
-- updates the last snapshot of a column, its comment or the partition key. It adds files by the commit function alone; it
-- cannot end or remove a file, or drop or rename a table.
DO $$
DECLARE name text;
BEGIN
  FOR name IN SELECT tablename FROM pg_tables WHERE schemaname = '@SCHEMA_TEXT@' AND tablename LIKE 'ducklake\_%' LOOP
    EXECUTE format('GRANT INSERT, UPDATE, DELETE ON @SCHEMA@.%I TO @PREFIX@_operator, @PREFIX@_compactor', name);
    IF name NOT IN ('ducklake_metadata', 'ducklake_delete_file', 'ducklake_files_scheduled_for_deletion', 'ducklake_data_file',
                    'ducklake_file_column_stats', 'ducklake_file_variant_stats', 'ducklake_file_partition_value',
                    'ducklake_table_stats', 'ducklake_table_column_stats') THEN
      EXECUTE format('GRANT INSERT ON @SCHEMA@.%I TO @PREFIX@_worker', name);
    END IF;
  END LOOP;
END $$;
GRANT UPDATE ON @SCHEMA@.ducklake_column, @SCHEMA@.ducklake_column_tag, @SCHEMA@.ducklake_partition_info TO @PREFIX@_worker;

-- Operator: also `verify --record`, `replay`, `skip`, `dead-letters`, `snapshots`, `sql --write`.
GRANT INSERT ON @SCHEMA@.ducktide_source, @SCHEMA@.ducktide_commit TO @PREFIX@_operator;
GRANT EXECUTE ON FUNCTION @SCHEMA@.ducktide_commit_files(jsonb) TO @PREFIX@_operator;
GRANT INSERT, UPDATE, DELETE ON @SCHEMA@.ducktide_intent, @SCHEMA@.ducktide_pin, @SCHEMA@.ducktide_meta TO @PREFIX@_operator;

-- Compactor: coalesces old rows of the ledger, and records its passes.
GRANT UPDATE, DELETE ON @SCHEMA@.ducktide_ledger TO @PREFIX@_compactor;
GRANT INSERT, UPDATE, DELETE ON @SCHEMA@.ducktide_meta TO @PREFIX@_compactor;

-- Worker: registers topics, commits, adds columns. Start it with --no-init.
GRANT INSERT ON @SCHEMA@.ducktide_source, @SCHEMA@.ducktide_commit TO @PREFIX@_worker;
GRANT EXECUTE ON FUNCTION @SCHEMA@.ducktide_commit_files(jsonb) TO @PREFIX@_worker;

COMMIT;
