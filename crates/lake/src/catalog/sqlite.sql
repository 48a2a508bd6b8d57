-- How a commit becomes progress: message -> ledger rows -> compare-and-swap.
--
-- The message is the extra_info of a lake commit, or, for progress without rows, a row put into the
-- mailbox ducktide_commit(message). The same JSON in both:
--   {"ducktide":1,"kind":K,"progress":[{"source":1,"partition":0,"epoch":0,"from":100,"to":200,"rows":97,"tombstones":3}, ...]}
-- Counts: rows, dead (letters not yet resolved), duplicates, tombstones, gaps (offsets Kafka does not
-- have), given_up; left out means 0; their sum is to-from, always.
--   start           from = to: a partition's first position, if it has none yet; read progress
--                   afterwards to learn which decision holds                                 mailbox
--   ingest          from < to: the worker's everyday progress; with rows or dead letters in a lake
--                   commit, without them through the mailbox
--   replay          to < from, counts <= 0; begins a new epoch   lake commit; mailbox when nothing is removed
--   skip            an operator gives records up: from < to, all of them given_up; a new epoch mailbox
--   retry, discard  from = to = the offset of a dead letter below next_offset; dead -1, rows or
--                   given_up +1; once each until a replay passes it                      lake commit
-- Raised texts avoid the words that make DuckLake retry ("primary key", "unique", "conflict",
-- "concurrent"). Whatever names ducktide and is not exactly right is refused.

CREATE TABLE ducktide_meta(key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE ducktide_source(source_id INTEGER PRIMARY KEY, table_name TEXT NOT NULL, topic TEXT NOT NULL, pipeline TEXT NOT NULL, cluster_id TEXT, topic_id TEXT,
                             created_at TEXT NOT NULL, UNIQUE (table_name, topic));
CREATE TABLE ducktide_progress(source_id INTEGER NOT NULL, partition INTEGER NOT NULL, epoch INTEGER NOT NULL DEFAULT 0, next_offset BIGINT NOT NULL,
                               snapshot_id BIGINT, updated_at TEXT, PRIMARY KEY (source_id, partition));
CREATE TABLE ducktide_ledger(
  ledger_id INTEGER PRIMARY KEY, source_id INTEGER NOT NULL, partition INTEGER NOT NULL, epoch INTEGER NOT NULL,
  from_offset BIGINT NOT NULL, to_offset BIGINT NOT NULL, snapshot_id BIGINT, kind TEXT NOT NULL,
  rows BIGINT NOT NULL, dead BIGINT NOT NULL, duplicates BIGINT NOT NULL, tombstones BIGINT NOT NULL, gaps BIGINT NOT NULL, given_up BIGINT NOT NULL, committed_at TEXT NOT NULL,
  CONSTRAINT ducktide_counts_add_up CHECK (rows + dead + duplicates + tombstones + gaps + given_up = to_offset - from_offset AND from_offset >= 0 AND to_offset >= 0),
  CONSTRAINT ducktide_rows_need_a_snapshot CHECK (snapshot_id IS NOT NULL OR (rows = 0 AND dead = 0)),
  CONSTRAINT ducktide_kind_fits CHECK (coalesce(CASE kind
    WHEN 'start'   THEN to_offset = from_offset AND rows = 0 AND dead = 0 AND given_up = 0
    WHEN 'ingest'  THEN to_offset > from_offset AND rows >= 0 AND dead >= 0 AND duplicates >= 0 AND tombstones >= 0 AND gaps >= 0 AND given_up = 0
    WHEN 'replay'  THEN to_offset < from_offset AND rows <= 0 AND dead <= 0 AND duplicates <= 0 AND tombstones <= 0 AND gaps <= 0 AND given_up <= 0
    WHEN 'skip'    THEN to_offset > from_offset AND given_up = to_offset - from_offset
    WHEN 'retry'   THEN to_offset = from_offset AND rows = 1 AND dead = -1
    WHEN 'discard' THEN to_offset = from_offset AND given_up = 1 AND dead = -1 END, 0)));
CREATE INDEX ducktide_ledger_position ON ducktide_ledger(source_id, partition, from_offset);
CREATE TABLE ducktide_commit(snapshot_id BIGINT, changes_made TEXT, message TEXT NOT NULL);   -- a mailbox: nothing stays in it
-- What an operator's program is about to do, for workers and compactor to wait for; a program that dies leaves its intent until it expires.
CREATE TABLE ducktide_intent(source_id INTEGER PRIMARY KEY, table_name TEXT NOT NULL, kind TEXT NOT NULL, holder TEXT NOT NULL, expires_at TEXT NOT NULL, keep_snapshots_from BIGINT NOT NULL);
CREATE TABLE ducktide_pin(name TEXT PRIMARY KEY, snapshot_id BIGINT NOT NULL, created_at TEXT NOT NULL);
CREATE INDEX ducktide_data_file_path ON ducklake_data_file(path);
CREATE INDEX ducktide_scheduled_name ON ducklake_files_scheduled_for_deletion(substr(path, -53));  -- 'ducktide-<uuid>.parquet'

CREATE TRIGGER ducktide_once BEFORE INSERT ON ducklake_data_file WHEN NEW.path LIKE '%ducktide-%'
BEGIN
  SELECT raise(ABORT, 'ducktide refused: file already registered')
   WHERE EXISTS (SELECT 1 FROM ducklake_data_file f WHERE f.path = NEW.path AND f.table_id = NEW.table_id)
      OR EXISTS (SELECT 1 FROM ducklake_files_scheduled_for_deletion f WHERE substr(f.path, -53) = substr(NEW.path, -53));
END;
CREATE TRIGGER ducktide_snapshot BEFORE INSERT ON ducklake_snapshot_changes WHEN instr(NEW.commit_extra_info, 'ducktide') > 0
BEGIN
  INSERT INTO ducktide_commit VALUES (NEW.snapshot_id, coalesce(NEW.changes_made, ''), NEW.commit_extra_info);
END;
CREATE TRIGGER ducktide_unpack BEFORE INSERT ON ducktide_commit
BEGIN
  SELECT raise(ABORT, 'ducktide refused: malformed')
   WHERE coalesce(NEW.message->>'$.ducktide' <> 1, 1) OR coalesce(json_array_length(NEW.message, '$.progress'), 0) = 0
      OR EXISTS (SELECT 1 FROM json_each(NEW.message, '$.progress') e, json_each(e.value) v
                  WHERE v.type <> 'integer' OR v.key NOT IN ('source', 'partition', 'epoch', 'from', 'to', 'rows', 'dead', 'duplicates', 'tombstones', 'gaps', 'given_up'));
  SELECT raise(ABORT, 'ducktide refused: rows without a lake change') FROM json_each(NEW.message, '$.progress') e
   WHERE (coalesce(e.value->>'rows', 0) > 0 OR coalesce(e.value->>'dead', 0) > 0) AND instr(coalesce(NEW.changes_made, ''), 'inserted_into_table') = 0;
  INSERT INTO ducktide_ledger(source_id, partition, epoch, from_offset, to_offset, snapshot_id, kind, rows, dead, duplicates, tombstones, gaps, given_up, committed_at)
  SELECT e.value->>'source', e.value->>'partition', e.value->>'epoch', e.value->>'from', e.value->>'to', NEW.snapshot_id, NEW.message->>'$.kind',
         coalesce(e.value->>'rows', 0), coalesce(e.value->>'dead', 0), coalesce(e.value->>'duplicates', 0), coalesce(e.value->>'tombstones', 0),
         coalesce(e.value->>'gaps', 0), coalesce(e.value->>'given_up', 0), strftime('%Y-%m-%dT%H:%M:%fZ')
    FROM json_each(NEW.message, '$.progress') e;
  SELECT raise(IGNORE);
END;
CREATE TRIGGER ducktide_advance BEFORE INSERT ON ducktide_ledger
BEGIN
  INSERT INTO ducktide_progress(source_id, partition, next_offset)
  SELECT NEW.source_id, NEW.partition, NEW.from_offset
   WHERE NEW.kind = 'start' AND NOT EXISTS (SELECT 1 FROM ducktide_progress p WHERE p.source_id = NEW.source_id AND p.partition = NEW.partition);
  SELECT raise(ABORT, 'ducktide fenced')
   WHERE NOT EXISTS (SELECT 1 FROM ducktide_progress p WHERE p.source_id = NEW.source_id AND p.partition = NEW.partition AND p.epoch = NEW.epoch
                        AND CASE WHEN NEW.kind IN ('retry', 'discard') THEN p.next_offset > NEW.from_offset ELSE p.next_offset = NEW.from_offset END);
  SELECT raise(ABORT, 'ducktide refused: already resolved')
   WHERE NEW.kind IN ('retry', 'discard')
     AND EXISTS (SELECT 1 FROM ducktide_ledger l
                  WHERE l.source_id = NEW.source_id AND l.partition = NEW.partition AND l.from_offset = NEW.from_offset AND l.kind IN ('retry', 'discard')
                    AND NOT EXISTS (SELECT 1 FROM ducktide_ledger r WHERE r.source_id = l.source_id AND r.partition = l.partition AND r.kind = 'replay'
                                       AND r.ledger_id > l.ledger_id AND r.to_offset <= l.from_offset));
  UPDATE ducktide_progress SET next_offset = CASE WHEN NEW.kind IN ('retry', 'discard') THEN next_offset ELSE NEW.to_offset END,
                               epoch = epoch + (NEW.kind IN ('replay', 'skip')), snapshot_id = coalesce(NEW.snapshot_id, snapshot_id),
                               updated_at = strftime('%Y-%m-%dT%H:%M:%fZ')
   WHERE source_id = NEW.source_id AND partition = NEW.partition;
END;
