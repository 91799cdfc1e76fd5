/* Bare libpq, for benches/locks.rs: takes and releases an advisory lock with prepared statements,
   as often as argv[2] says on the database argv[1], and prints the nanoseconds of one pair. */

#include <libpq-fe.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static void check(PGconn *conn, PGresult *result) {
    ExecStatusType status = PQresultStatus(result);
    if (status != PGRES_TUPLES_OK && status != PGRES_COMMAND_OK) {
        fprintf(stderr, "%s", PQerrorMessage(conn));
        exit(1);
    }
    PQclear(result);
}

int main(int argc, char **argv) {
    if (argc != 3)
        return 2;
    PGconn *conn = PQconnectdb(argv[1]);
    const Oid types[] = {20};
    check(conn, PQprepare(conn, "lock", "SELECT pg_catalog.pg_advisory_lock($1)", 1, types));
    check(conn, PQprepare(conn, "unlock", "SELECT pg_catalog.pg_advisory_unlock($1)", 1, types));
    const char key[8] = {0, 0, 0, 0, 0, 0, 0, 42};
    const char *const values[] = {key};
    const int lengths[] = {8}, formats[] = {1};
    long pairs = atol(argv[2]);

    struct timespec begun, ended;
    clock_gettime(CLOCK_MONOTONIC, &begun);
    for (long i = 0; i < pairs; i++) {
        check(conn, PQexecPrepared(conn, "lock", 1, values, lengths, formats, 1));
        check(conn, PQexecPrepared(conn, "unlock", 1, values, lengths, formats, 1));
    }
    clock_gettime(CLOCK_MONOTONIC, &ended);
    int64_t nanoseconds = (ended.tv_sec - begun.tv_sec) * INT64_C(1000000000) +
                          (ended.tv_nsec - begun.tv_nsec);
    printf("%lld\n", (long long)(nanoseconds / pairs));
    PQfinish(conn);
    return 0;
}
