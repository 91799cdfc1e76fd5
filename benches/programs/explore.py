"""frontrun, for benches: runs all orders of workers that add one to a balance they have read, and
prints the nanoseconds that it took. Arguments: the database, how many workers, and FOR UPDATE or not."""

import os
import sys
import time

import frontrun
import psycopg2

if "FRONTRUN_ACTIVE" not in os.environ:
    cli = [sys.executable, "-m", "frontrun.cli", sys.executable]
    os.execv(sys.executable, cli + sys.argv)

url, workers, select = sys.argv[1], int(sys.argv[2]), sys.argv[3]
lock = " FOR UPDATE" if select == "FOR UPDATE" else ""


class Balance:
    def __init__(self):
        conn = psycopg2.connect(url)
        conn.autocommit = True
        cursor = conn.cursor()
        cursor.execute(
            "CREATE TABLE IF NOT EXISTS balances (id int PRIMARY KEY, balance int NOT NULL)"
        )
        cursor.execute("DELETE FROM balances")
        cursor.execute("INSERT INTO balances VALUES (1, 0)")
        conn.close()

    def add(self):
        conn = psycopg2.connect(url)
        cursor = conn.cursor()
        cursor.execute("SELECT balance FROM balances WHERE id = 1" + lock)
        (balance,) = cursor.fetchone()
        cursor.execute("UPDATE balances SET balance = %s WHERE id = 1", (balance + 1,))
        conn.commit()
        conn.close()


begun = time.perf_counter_ns()
result = frontrun.explore(
    setup=Balance,
    workers=Balance.add,
    count=workers,
    invariant=lambda balance: True,
    stop_on_first=False,
    total_timeout=120,
)
took = time.perf_counter_ns() - begun
if result.property_holds is None:
    sys.exit(f"after {result.num_explored} executions: {result.inconclusive_reason}")
print(took)
