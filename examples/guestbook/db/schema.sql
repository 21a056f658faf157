CREATE TABLE IF NOT EXISTS entries (
    id serial PRIMARY KEY,
    author text NOT NULL,
    said text NOT NULL,
    at timestamptz NOT NULL DEFAULT now()
);
