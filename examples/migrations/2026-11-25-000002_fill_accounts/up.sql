INSERT INTO accounts (owner, balance) SELECT 'owner ' || n, n FROM generate_series(1, 100000) AS n;
