CREATE TABLE public.b (id pg_catalog.int4);
