-- Columns mirror the rows of store.py, in their order. What queries need is a column; the
-- rest is a serialised message. Never edit a migration that was released: add another.

CREATE TABLE schema_version (
  version INTEGER PRIMARY KEY,
  name TEXT NOT NULL,
  sha256 TEXT NOT NULL,
  applied_at REAL NOT NULL
) STRICT;

CREATE TABLE study (
  key INTEGER PRIMARY KEY,
  uid TEXT NOT NULL UNIQUE,
  project TEXT NOT NULL,
  study_id TEXT NOT NULL,
  display_name TEXT NOT NULL,
  spec BLOB NOT NULL,
  state TEXT NOT NULL,
  state_reason BLOB NOT NULL,
  labels BLOB NOT NULL,
  n_trials INTEGER NOT NULL,
  revision INTEGER NOT NULL,
  cost_spent REAL NOT NULL,
  created_at REAL NOT NULL,
  updated_at REAL NOT NULL,
  etag TEXT NOT NULL
) STRICT;

-- A name is free again once its study is deleted.
CREATE UNIQUE INDEX study_by_name ON study (project, study_id) WHERE state <> 'DELETED';
CREATE INDEX study_by_project ON study (project, key);

CREATE TABLE trial (
  study_key INTEGER NOT NULL REFERENCES study (key),
  number INTEGER NOT NULL,
  state TEXT NOT NULL,
  state_message TEXT NOT NULL,
  point BLOB NOT NULL,
  outcome BLOB,
  labels BLOB NOT NULL,
  attempt INTEGER NOT NULL,
  worker TEXT NOT NULL,
  lease_token TEXT NOT NULL,
  lease_duration_s REAL NOT NULL,
  late INTEGER NOT NULL,
  feasible INTEGER,
  amendments INTEGER NOT NULL,
  revision INTEGER NOT NULL,
  created_at REAL NOT NULL,
  started_at REAL,
  ended_at REAL,
  PRIMARY KEY (study_key, number)
) STRICT;

-- Counts by state, and the few trials that are queued or running among many finished ones.
CREATE INDEX trial_by_state ON trial (study_key, state, number);

CREATE TABLE event (
  study_key INTEGER NOT NULL REFERENCES study (key),
  revision INTEGER NOT NULL,
  kind TEXT NOT NULL,
  trial INTEGER,
  payload BLOB NOT NULL,
  at REAL NOT NULL,
  PRIMARY KEY (study_key, revision)
) STRICT;

CREATE TABLE measurement (
  study_key INTEGER NOT NULL,
  trial INTEGER NOT NULL,
  step INTEGER NOT NULL,
  payload BLOB NOT NULL,
  PRIMARY KEY (study_key, trial, step),
  FOREIGN KEY (study_key, trial) REFERENCES trial (study_key, number)
) STRICT;

CREATE TABLE response (
  project TEXT NOT NULL,
  method TEXT NOT NULL,
  request_id TEXT NOT NULL,
  body_hash BLOB NOT NULL,
  response BLOB NOT NULL,
  at REAL NOT NULL,
  PRIMARY KEY (project, method, request_id)
) STRICT;

CREATE INDEX response_by_age ON response (at);
