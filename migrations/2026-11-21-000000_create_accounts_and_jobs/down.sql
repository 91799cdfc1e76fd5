DROP TABLE jobs;
DROP TABLE accounts;
