/* Bare libpq: takes and releases advisory locks with prepared statements, as
   often as argv[2] says on the database argv[1], and prints the nanoseconds of one pair. With one
   lock by its number, with more by unnest: argv[3] says how many. */

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
    if (argc != 4)
        return 2;
    PGconn *conn = PQconnectdb(argv[1]);
    long pairs = atol(argv[2]), locks = atol(argv[3]);
    if (locks == 1) {
        const Oid types[] = {20};
        check(conn, PQprepare(conn, "lock", "SELECT pg_catalog.pg_advisory_lock($1)", 1, types));
        check(conn, PQprepare(conn, "unlock", "SELECT pg_catalog.pg_advisory_unlock($1)", 1, types));
    } else {
        const Oid types[] = {1016};
        check(conn, PQprepare(conn, "lock", "SELECT pg_catalog.pg_advisory_lock(k) "
                              "FROM pg_catalog.unnest($1) AS k", 1, types));
        check(conn, PQprepare(conn, "unlock", "SELECT pg_catalog.pg_advisory_unlock(k) "
                              "FROM pg_catalog.unnest($1) AS k", 1, types));
    }
    const char number[8] = {0, 0, 0, 0, 0, 0, 0, 42};
    char *array = malloc(locks * 12 + 3), *end = array;
    for (long key = 1; key <= locks; key++)
        end += sprintf(end, "%c%ld", key == 1 ? '{' : ',', key);
    sprintf(end, "}");
    const char *const values[] = {locks == 1 ? number : array};
    const int lengths[] = {8}, formats[] = {locks == 1};

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
    free(array);
    return 0;
}
