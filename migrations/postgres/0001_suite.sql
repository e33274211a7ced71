-- The table of the model `Customer` in tests/suite/schema.rs, as a team writes it: in its own order of columns, with
-- its own names of constraints, and with columns the model does not know.

CREATE TYPE customer_status AS ENUM ('active', 'closed');

CREATE TABLE customers (
    id uuid PRIMARY KEY,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    tenant integer NOT NULL,
    email text NOT NULL,
    email_lower text NOT NULL GENERATED ALWAYS AS (lower(email)) STORED,
    name varchar(200),
    balance numeric(18, 2) NOT NULL CHECK (balance >= 0),
    status customer_status NOT NULL DEFAULT 'active',
    labels jsonb NOT NULL DEFAULT '[]',
    tags text[] NOT NULL DEFAULT '{}',
    note text NOT NULL DEFAULT 'none',
    imported_from text,
    CONSTRAINT customers_tenant_email UNIQUE (tenant, email)
);

CREATE INDEX customers_created_at ON customers (created_at);
