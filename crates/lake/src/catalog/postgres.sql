-- The same tables and triggers as sqlite.sql, where the messages are described.
--
-- @S@ is the schema that holds the lake's metadata. The functions' search_path is fixed to it (two lakes in one database must never touch each other's progress);
-- SECURITY DEFINER lets workers that may only INSERT into ducktide_source and ducktide_commit (and use DuckLake's own tables) do all that workers do.
CREATE TABLE @S@.ducktide_meta(key text PRIMARY KEY, value text NOT NULL);
CREATE TABLE @S@.ducktide_source(source_id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, table_name text NOT NULL, topic text NOT NULL, pipeline text NOT NULL, cluster_id text, topic_id text,
                                 created_at timestamptz NOT NULL DEFAULT now(), UNIQUE (table_name, topic));
CREATE TABLE @S@.ducktide_progress(source_id int, partition int, epoch int NOT NULL DEFAULT 0, next_offset bigint NOT NULL, snapshot_id bigint, updated_at timestamptz,
                                   PRIMARY KEY (source_id, partition)) WITH (fillfactor = 50);
CREATE TABLE @S@.ducktide_ledger(
  ledger_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, source_id int NOT NULL, partition int NOT NULL, epoch int NOT NULL,
  from_offset bigint NOT NULL, to_offset bigint NOT NULL, snapshot_id bigint, kind text NOT NULL,
  rows bigint NOT NULL, dead bigint NOT NULL, duplicates bigint NOT NULL, tombstones bigint NOT NULL, gaps bigint NOT NULL, given_up bigint NOT NULL, committed_at timestamptz NOT NULL,
  CONSTRAINT ducktide_counts_add_up CHECK (rows + dead + duplicates + tombstones + gaps + given_up = to_offset - from_offset AND from_offset >= 0 AND to_offset >= 0),
  CONSTRAINT ducktide_rows_need_a_snapshot CHECK (snapshot_id IS NOT NULL OR (rows = 0 AND dead = 0)),
  CONSTRAINT ducktide_kind_fits CHECK (coalesce(CASE kind
    WHEN 'start'   THEN to_offset = from_offset AND rows = 0 AND dead = 0 AND given_up = 0
    WHEN 'ingest'  THEN to_offset > from_offset AND rows >= 0 AND dead >= 0 AND duplicates >= 0 AND tombstones >= 0 AND gaps >= 0 AND given_up = 0
    WHEN 'replay'  THEN to_offset < from_offset AND rows <= 0 AND dead <= 0 AND duplicates <= 0 AND tombstones <= 0 AND gaps <= 0 AND given_up <= 0
    WHEN 'skip'    THEN to_offset > from_offset AND given_up = to_offset - from_offset
    WHEN 'retry'   THEN to_offset = from_offset AND rows = 1 AND dead = -1
    WHEN 'discard' THEN to_offset = from_offset AND given_up = 1 AND dead = -1 END, false)));
CREATE INDEX ducktide_ledger_position ON @S@.ducktide_ledger(source_id, partition, from_offset);
CREATE TABLE @S@.ducktide_commit(snapshot_id bigint, changes_made text, message text NOT NULL);
-- What an operator's program is about to do, for workers and compactor to wait for; a program that dies leaves its intent until it expires.
CREATE TABLE @S@.ducktide_intent(source_id int PRIMARY KEY, table_name text NOT NULL, kind text NOT NULL, holder text NOT NULL, expires_at timestamptz NOT NULL, keep_snapshots_from bigint NOT NULL);
CREATE TABLE @S@.ducktide_pin(name text PRIMARY KEY, snapshot_id bigint NOT NULL, created_at timestamptz NOT NULL DEFAULT now());
CREATE INDEX ducktide_data_file_path ON @S@.ducklake_data_file(path);
CREATE INDEX ducktide_scheduled_name ON @S@.ducklake_files_scheduled_for_deletion(right(path, 53));

CREATE FUNCTION @S@.ducktide_once() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = @S@, pg_temp AS $$
BEGIN
  IF EXISTS (SELECT 1 FROM ducklake_data_file f WHERE f.path = NEW.path AND f.table_id = NEW.table_id)
     OR EXISTS (SELECT 1 FROM ducklake_files_scheduled_for_deletion f WHERE right(f.path, 53) = right(NEW.path, 53)) THEN
    RAISE EXCEPTION 'ducktide refused: file already registered'; END IF;
  RETURN NEW;
END $$;
CREATE FUNCTION @S@.ducktide_snapshot() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = @S@, pg_temp AS $$
BEGIN
  INSERT INTO ducktide_commit VALUES (NEW.snapshot_id, coalesce(NEW.changes_made, ''), NEW.commit_extra_info);
  RETURN NEW;
END $$;
CREATE FUNCTION @S@.ducktide_unpack() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = @S@, pg_temp AS $$
DECLARE m jsonb := NEW.message::jsonb;
BEGIN
  IF m->>'ducktide' IS DISTINCT FROM '1' OR jsonb_typeof(m->'progress') IS DISTINCT FROM 'array' OR jsonb_array_length(m->'progress') = 0
     OR EXISTS (SELECT 1 FROM jsonb_array_elements(m->'progress') e, jsonb_each(e) v
                 WHERE jsonb_typeof(v.value) <> 'number' OR v.key NOT IN ('source', 'partition', 'epoch', 'from', 'to', 'rows', 'dead', 'duplicates', 'tombstones', 'gaps', 'given_up'))
  THEN RAISE EXCEPTION 'ducktide refused: malformed'; END IF;
  IF position('inserted_into_table' in coalesce(NEW.changes_made, '')) = 0
     AND EXISTS (SELECT 1 FROM jsonb_array_elements(m->'progress') e WHERE coalesce((e->>'rows')::bigint, 0) > 0 OR coalesce((e->>'dead')::bigint, 0) > 0)
  THEN RAISE EXCEPTION 'ducktide refused: rows without a lake change'; END IF;
  INSERT INTO ducktide_ledger(source_id, partition, epoch, from_offset, to_offset, snapshot_id, kind, rows, dead, duplicates, tombstones, gaps, given_up, committed_at)
  SELECT source, partition, epoch, "from", "to", NEW.snapshot_id, m->>'kind', coalesce(rows, 0), coalesce(dead, 0), coalesce(duplicates, 0), coalesce(tombstones, 0),
         coalesce(gaps, 0), coalesce(given_up, 0), clock_timestamp()
    FROM jsonb_to_recordset(m->'progress') AS x(source int, partition int, epoch int, "from" bigint, "to" bigint, rows bigint, dead bigint, duplicates bigint, tombstones bigint, gaps bigint, given_up bigint);
  RETURN NULL;
END $$;
CREATE FUNCTION @S@.ducktide_advance() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = @S@, pg_temp AS $$
DECLARE resolves boolean := NEW.kind IN ('retry', 'discard');
BEGIN
  IF NEW.kind = 'start' THEN INSERT INTO ducktide_progress VALUES (NEW.source_id, NEW.partition, 0, NEW.from_offset, NULL, clock_timestamp()) ON CONFLICT DO NOTHING; END IF;
  UPDATE ducktide_progress SET next_offset = CASE WHEN resolves THEN next_offset ELSE NEW.to_offset END, epoch = epoch + (NEW.kind IN ('replay', 'skip'))::int,
                               snapshot_id = coalesce(NEW.snapshot_id, snapshot_id), updated_at = clock_timestamp()
   WHERE source_id = NEW.source_id AND partition = NEW.partition AND epoch = NEW.epoch AND CASE WHEN resolves THEN next_offset > NEW.from_offset ELSE next_offset = NEW.from_offset END;
  IF NOT FOUND THEN RAISE EXCEPTION 'ducktide fenced: source % partition % is not at epoch % offset %', NEW.source_id, NEW.partition, NEW.epoch, NEW.from_offset; END IF;
  IF resolves AND EXISTS (SELECT 1 FROM ducktide_ledger l
                           WHERE l.source_id = NEW.source_id AND l.partition = NEW.partition AND l.from_offset = NEW.from_offset AND l.kind IN ('retry', 'discard')
                             AND NOT EXISTS (SELECT 1 FROM ducktide_ledger r WHERE r.source_id = l.source_id AND r.partition = l.partition AND r.kind = 'replay'
                                                AND r.ledger_id > l.ledger_id AND r.to_offset <= l.from_offset))
  THEN RAISE EXCEPTION 'ducktide refused: already resolved'; END IF;
  RETURN NEW;
END $$;
CREATE TRIGGER ducktide_once BEFORE INSERT ON @S@.ducklake_data_file FOR EACH ROW WHEN (NEW.path LIKE '%ducktide-%') EXECUTE FUNCTION @S@.ducktide_once();
CREATE TRIGGER ducktide_snapshot BEFORE INSERT ON @S@.ducklake_snapshot_changes FOR EACH ROW WHEN (position('ducktide' in NEW.commit_extra_info) > 0) EXECUTE FUNCTION @S@.ducktide_snapshot();
CREATE TRIGGER ducktide_unpack BEFORE INSERT ON @S@.ducktide_commit FOR EACH ROW EXECUTE FUNCTION @S@.ducktide_unpack();
CREATE TRIGGER ducktide_advance BEFORE INSERT ON @S@.ducktide_ledger FOR EACH ROW EXECUTE FUNCTION @S@.ducktide_advance();
ALTER TABLE @S@.ducklake_data_file ENABLE ALWAYS TRIGGER ducktide_once;
ALTER TABLE @S@.ducklake_snapshot_changes ENABLE ALWAYS TRIGGER ducktide_snapshot;
ALTER TABLE @S@.ducktide_commit ENABLE ALWAYS TRIGGER ducktide_unpack;
ALTER TABLE @S@.ducktide_ledger ENABLE ALWAYS TRIGGER ducktide_advance;
